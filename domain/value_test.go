package domain_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/domain"
)

const plaintext = "hunter2-correct-horse"

type nested struct {
	Name   string
	hidden domain.Value
	deep   struct{ list []domain.Value }
	byName map[string]domain.Value
}

type element struct{ V domain.Value }

func TestValueCannotBePrinted(t *testing.T) {
	v := domain.NewValue([]byte(plaintext))
	n := nested{Name: "n", hidden: v, byName: map[string]domain.Value{"k": v}}
	n.deep.list = []domain.Value{v}

	var out bytes.Buffer
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%t", "%c", "%U", "%e", "%g", "%T", "%p"} {
		shown["fmt "+verb] = fmt.Sprintf(verb, v)
		shown["fmt pointer "+verb] = fmt.Sprintf(verb, &v)
		shown["fmt nested "+verb] = fmt.Sprintf(verb, n)
		shown["fmt nested pointer "+verb] = fmt.Sprintf(verb, &n)
	}
	for name, handler := range map[string]slog.Handler{"json": slog.NewJSONHandler(&out, nil), "text": slog.NewTextHandler(&out, nil)} {
		out.Reset()
		slog.New(handler).Info("m", "v", v, "p", &v, "n", n, "group", slog.GroupValue(slog.Any("v", v)))
		shown["slog "+name] = out.String()
	}
	b, err := json.Marshal(map[string]any{"v": v, "p": &v, "n": n})
	shown["json"] = string(b) + fmt.Sprint(err)
	b, err = xml.Marshal(element{v})
	shown["xml"] = string(b) + fmt.Sprint(err)
	out.Reset()
	err = gob.NewEncoder(&out).Encode(struct{ V domain.Value }{v})
	shown["gob"] = out.String() + fmt.Sprint(err)
	shown["error"] = fmt.Errorf("failed on %v: %w", v, errors.New("cause")).Error()
	shown["panic"] = func() (text string) {
		defer func() { text = fmt.Sprint(recover()) }()
		panic(v)
	}()

	for how, text := range shown {
		for _, leak := range []string{plaintext, fmt.Sprintf("%x", plaintext), fmt.Sprint([]byte(plaintext))} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(leak)) {
				t.Errorf("%s shows the value: %s", how, text)
			}
		}
	}
	for _, how := range []string{"fmt %v", "fmt %#v", "fmt %s", "fmt %x", "fmt %d", "fmt nested %v", "slog json", "slog text", "json", "xml", "gob", "error", "panic"} {
		if !strings.Contains(shown[how], string(domain.Redacted)) {
			t.Errorf("%s shows %q, not %s", how, shown[how], domain.Redacted)
		}
	}
}

// Reflection finds no byte of the value in any field.
func TestValueHoldsNoBytesThatReflectionReaches(t *testing.T) {
	v := reflect.ValueOf(domain.NewValue([]byte(plaintext)))
	for i := range v.NumField() {
		switch field := v.Field(i); field.Kind() {
		case reflect.Func:
		case reflect.String:
			if field.String() != string(domain.Redacted) {
				t.Errorf("field %d is %q", i, field.String())
			}
		default:
			t.Errorf("field %d is a %s", i, field.Kind())
		}
	}
}

func TestValueReveals(t *testing.T) {
	if got := string(domain.NewValue([]byte(plaintext)).Reveal()); got != plaintext {
		t.Errorf("Reveal = %q", got)
	}
	if v := (domain.Value{}); !v.IsZero() || v.Reveal() != nil {
		t.Error("the zero Value reveals something")
	}
	if domain.NewValue(nil).IsZero() {
		t.Error("an empty value is zero")
	}
}

func TestValuesAreEqualByTheirBytes(t *testing.T) {
	value := func(s string) domain.Value { return domain.NewValue([]byte(s)) }
	for _, c := range []struct {
		a, b domain.Value
		want bool
	}{
		{value("a"), value("a"), true},
		{value("a"), value("b"), false},
		{value("a"), value("ab"), false},
		{value("ab"), value("a"), false},
		{domain.Value{}, domain.Value{}, true},
		{domain.Value{}, value(""), true},
		{domain.Value{}, value("a"), false},
	} {
		if got := c.a.Equal(c.b); got != c.want {
			t.Errorf("Equal of %q and %q is %v", c.a.Reveal(), c.b.Reveal(), got)
		}
	}
}

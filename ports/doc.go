// Package ports holds the interfaces through which the use cases reach the outside. Each is small, speaks in
// domain types, and says in its comments what an implementation must do. Package porttest checks them.
package ports

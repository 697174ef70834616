// Makes v1.json and v2.json with implementations that share no code with this repository. See README.md.
import { writeFileSync } from "node:fs";
import nacl from "tweetnacl";
import { CipherSuite, HkdfSha256 } from "@hpke/core";
import { DhkemX25519HkdfSha256 } from "@hpke/dhkem-x25519";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";

const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const utf8 = (text) => new TextEncoder().encode(text);

const privateKey = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
const publicKey = nacl.box.keyPair.fromSecretKey(privateKey).publicKey;
const secretType = "trading_api_key";
const expiresAt = "2026-03-01T12:25:00.000Z";
const value = "påssphrase-from-JavaScript\n";

function write(file, envelope) {
  writeFileSync(file, JSON.stringify({
    privateKey: base64(privateKey),
    publicKey: base64(publicKey),
    secretType,
    expiresAt,
    value,
    ciphertext: base64(utf8(JSON.stringify(envelope))),
  }, null, 2) + "\n");
}

const ephemeral = nacl.box.keyPair();
const nonce = nacl.randomBytes(nacl.box.nonceLength);
write("v1.json", {
  version: 1,
  nonce: base64(nonce),
  ephemeralPublicKey: base64(ephemeral.publicKey),
  ciphertext: base64(nacl.box(utf8(value), nonce, publicKey, ephemeral.secretKey)),
});

const suite = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Chacha20Poly1305(),
});
const sender = await suite.createSenderContext({
  recipientPublicKey: await suite.kem.deserializePublicKey(publicKey.buffer),
  info: utf8("omni-secrets/break-glass/v2").buffer,
});
const sealed = await sender.seal(utf8(value).buffer, utf8(`${secretType}\n${expiresAt}`).buffer);
write("v2.json", { version: 2, enc: base64(sender.enc), ciphertext: base64(sealed) });

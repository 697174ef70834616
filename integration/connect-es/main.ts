// Calls the server over one protocol and prints what came, a line each: node dist/main.js PROTOCOL.
//
// What should come is known by ../connectes_test.go. It also makes the change that the watch waits for, when it sees
// the line of the keep-alive, and ends the input when it has seen that the server knows of the end of the watch.
import { once } from "node:events";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "./gen/omni/secrets/v1/errors_pb.js";
import { OpsService } from "./gen/omni/secrets/v1/ops_pb.js";
import { type Secret, SecretsService, type WatchSecretsResponse } from "./gen/omni/secrets/v1/secrets_pb.js";

interface Options {
  baseUrl: string;
  interceptors: Interceptor[];
  defaultTimeoutMs: number;
}

const protocols: Record<string, (options: Options) => Transport> = {
  "connect": (o) => createConnectTransport({ ...o, httpVersion: "1.1" }),
  "connect-json": (o) => createConnectTransport({ ...o, httpVersion: "2", useBinaryFormat: false, useHttpGet: true }),
  "grpc": (o) => createGrpcTransport(o),
  "grpc-web": (o) => createGrpcWebTransport({ ...o, httpVersion: "1.1" }),
};

const [protocol = ""] = process.argv.slice(2);
const create = protocols[protocol];
if (create === undefined) {
  throw new Error(`the protocol is none of ${Object.keys(protocols).join(", ")}`);
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`${name} is not set`);
  }
  return value;
}

function transport(token?: string): Transport {
  const authorize: Interceptor = (next) => (request) => {
    if (token !== undefined) {
      request.header.set("Authorization", `Bearer ${token}`);
    }
    return next(request);
  };
  return create!({ baseUrl: setting("OMNI_API_URL"), interceptors: [authorize], defaultTimeoutMs: 30_000 });
}

const secretType = "trading_api_key";
const secrets = createClient(SecretsService, transport(setting("SERVICE_TOKEN")));
const stranger = createClient(SecretsService, transport());
const ops = createClient(OpsService, transport(setting("OPS_TOKEN")));

/** A secret as a line shows it. */
function shown(secret: Secret | undefined): string {
  if (secret === undefined) {
    return "nothing";
  }
  const { secretType, value, source, version, stale } = secret;
  return `${secretType}=${new TextDecoder().decode(value)} version=${version} source=${source} stale=${stale}`;
}

/** A message of a watch as a line shows it. */
function told({ event }: WatchSecretsResponse): string {
  switch (event.case) {
    case "secret":
      return shown(event.value);
    case "unavailable":
      return `${event.value.secretType} is unavailable: ${event.value.reason}`;
    case "keepAlive":
      return `keepAlive interval=${event.value.intervalSeconds}`;
    case undefined:
      return "nothing that this client knows";
  }
}

/** An error as a line shows it: its code, what it says, and its ErrorInfo. */
function refusal(error: unknown): string {
  if (!(error instanceof ConnectError)) {
    throw error;
  }
  const details = error.findDetails(ErrorInfoSchema).map((info) => {
    const failures = info.failures.map((f) => `${f.secretType}:${f.reason}`).join(",");
    return `${info.code} requestId=${info.requestId !== ""} retryAfter=${info.retryAfterSeconds} failures=[${failures}]`;
  });
  return [Code[error.code], ...details].join(" ");
}

async function report(name: string, call: () => Promise<string>): Promise<void> {
  console.log(`${name}: ${await call().catch(refusal)}`);
}

await report("events", async () => {
  const page = await ops.listAuditEvents({ actorId: `svc-${protocol}`, action: "read", limit: 10 });
  const rows = page.events.map((e) => `${e.secretType} ${e.result} recorded=${e.recordedAt !== undefined} error=${e.errorCode}`);
  return `${rows.join(";")} next=${JSON.stringify(page.nextCursor)}`;
});
await report("status", async () => {
  const { secrets } = await ops.getStatus({});
  return secrets.map((s) => `${s.secretType}:${s.cacheSource}:${typeof s.cacheVersion}`).join(" ");
});
const read = async () => shown((await secrets.getSecret({ secretType })).secret);
await report("read", read);
await report("refresh", async () => {
  const { refreshedSecretTypes, failures } = await secrets.refreshCache({ secretType });
  return `${refreshedSecretTypes.join(" ")} failures=${failures.length}`;
});
await report("read nothing", async () => shown((await secrets.getSecret({ secretType: "nothing" })).secret));
await report("read without a token", async () => shown((await stranger.getSecret({ secretType })).secret));
await report("refresh what fails", async () => String(await secrets.refreshCache({ secretType: "webhook_shared_secret" })));
await report("watch nothing", async () => {
  for await (const message of secrets.watchSecrets({ secretTypes: ["nothing"] })) {
    return told(message);
  }
  return "ended";
});

// The watch is left at the first change, by its signal: who only breaks out of the loop leaves the stream open.
const leaving = new AbortController();
await report("watch", async () => {
  let states = 0;
  for await (const message of secrets.watchSecrets({ secretTypes: [secretType] }, { signal: leaving.signal })) {
    console.log(`told: ${told(message)}`);
    if (message.event.case === "secret" && ++states === 2) {
      leaving.abort();
    }
  }
  return "ended";
});

await once(process.stdin.resume(), "end");
await report("read again", read); // only the stream has ended

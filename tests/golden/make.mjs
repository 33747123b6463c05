// Writes vectors.jsonl: for every event type and every way in, a request and the exact bytes that are delivered.
//
//     node tests/golden/make.mjs functions/event_platform/domain/events/event-catalog.json > tests/golden/vectors.jsonl
//
// None of the platform's code takes part: JavaScript itself says what JSON.stringify(JSON.parse(data)) is, the
// envelope is put together in the contract's order of keys, and signatures are those of node's crypto. Each line is
// {pim?, type, format, path, headers, body, delivered, without_identifier?}; `delivered` are the bodies for a
// subscription with send_product_identifier, `without_identifier` for one without, where that makes a difference.
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const NOW = Date.parse("2026-01-31T12:00:00Z") / 1000;
const PIM = "https://pim.example.com";
const SPEC = "https://events.example.com/spec";
const SUBJECT = "0190f3a0-0000-7000-8000-000000000001"; // of the subscription with send_product_identifier
const OTHER = "0190f3a0-0000-7000-8000-000000000002";
const INGEST_KEY = "the-ingest-key-of-the-pim";
const EVENTS_API_SECRET = "the-secret-that-the-pim-made";
const RELAY_SECRET = "the-relay-secret-of-the-pim";
const CLIENT = { username: "erp_1234", client_id: "1_erp" };

// What a JSON text may hold that its form in JavaScript does not show, as it stands in the text.
const TRICKY = [
  String.raw`"numbers":[1.0,-0,-0.0,1e21,1E+2,1e-7,0.1e1,123456789012345680000.0,100000000000000000000.0,5e-324]`,
  String.raw`"keys":{"10":"ten","2":[],"b":1,"0":0,"-1":2,"01":3,"4294967294":4,"4294967295":5,"a":6},"7":"first"`,
  String.raw`"escaped":"\/ \u003c\u0026 \u00e9\u00C9 \u2028\u2029 \ud83d\ude00 \u0000\u001f\u007f \b\f\n\r\t \\ \""`,
  `"plain":"/ <p>&amp;</p> é ß 灯 \u2028\u2029 😀 \u007f","ключ":"значение"`,
  String.raw`"lone":["\ud83d","\uDE00 x","\ude00\ud83d"],"\udc00":true`,
  String.raw`"twice":1,"other":2,"twice":{"a":1,"a":null},"__proto__":{"a":1},"constructor":""`,
  ` "spaces" : [ 1 ,\t2,\r\n { } , [ ] , "" , null , true ] , "deep":[[[[[[{"a":[{}]}]]]]]]`,
  String.raw`"\u0031":"one","decimals":[0.1,12.50,1.10e2,9007199254740991,-9007199254740991,1.7976931348623157e308]`,
];
const ROUNDED = String.raw`"beyond":[9007199254740993,-12345678901234567890,1e400,-1e400]`; // the relay alone takes it

const TIMES = [
  ["2026-01-31T11:59:59Z", "2026-01-31T11:59:59Z"],
  ["2026-01-31T12:59:59.120+01:00", "2026-01-31T11:59:59.120Z"],
  ["2026-01-31t00:29:59.000000001-11:30", "2026-01-31T11:59:59.000000001Z"],
  ["2024-02-29T00:00:00+05:45", "2024-02-28T18:15:00Z"],
];
// A relayed event whose time is more than 4 days ago is delivered to nobody (docs/decisions/0039-relayed-events.md).
const RELAYED_TIMES = [...TIMES.slice(0, 3), ["2026-01-28T00:00:00+05:45", "2026-01-27T18:15:00Z"]];
const WITH_IDENTIFIER = /^com\.akeneo\.pim\.v1\.product\.(created|updated|updated\.delta|deleted|became-(in)?complete)$/;

const catalog = JSON.parse(readFileSync(process.argv[2], "utf8"));
const write = (vector) => process.stdout.write(JSON.stringify(vector) + "\n");
const sign = (secret, text) => createHmac("sha256", secret).update(text).digest("hex");
const beforeLast = (text, more) => `${text.slice(0, -1)},${more}}`;
const php = (text) =>
  text.replace(/\//g, "\\/").replace(/[^\0-\x7f]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

function envelope(subject, id, type, time, data) {
  const event = { specversion: "1.0", id, source: "akeneo-event-platform", type, subject };
  const rest = { datacontenttype: "application/json", dataschema: `${SPEC}/${type}.schema.json`, time, data };
  return JSON.stringify({ ...event, ...rest });
}

function delivered(type, events) {
  const bodies = { delivered: events.map(({ id, time, data }) => envelope(SUBJECT, id, type, time, data)) };
  if (!WITH_IDENTIFIER.test(type)) return bodies;
  const without = events.map(({ id, time, data }) => {
    const copy = JSON.parse(JSON.stringify(data));
    delete copy.product.identifier;
    return envelope(OTHER, id, type, time, copy);
  });
  return { ...bodies, without_identifier: without };
}

function cloudEvents({ type, example }, number) {
  const tricky = (offset) => TRICKY[(number + offset) % TRICKY.length];
  const times = TIMES[number % TIMES.length];
  const bearer = { Authorization: `Bearer ${INGEST_KEY}` };
  const text = (id, data, dataFirst, [given] = times) => {
    const attributes = `"specversion":"1.0","type":"${type}","id":${JSON.stringify(id)},"time":"${given}"`;
    return dataFirst ? `{"data":${data},${attributes}}` : `{${attributes},"source":"pim","data":${data}}`;
  };
  const vector = (format, path, headers, body, ...events) => {
    const read = events.map(([id, data, [, time] = times]) => ({ id, time, data: JSON.parse(data) }));
    write({ type, format, path, headers, body, ...delivered(type, read) });
  };

  const plain = JSON.stringify(example);
  const structured = number % 2 ? beforeLast(plain, tricky(0)) : plain;
  vector(
    "structured", "/ingest", { ...bearer, "Content-Type": "application/cloudevents+json" },
    text(`structured-${number} é/"`, structured, false), [`structured-${number} é/"`, structured],
  );
  const pair = [php(beforeLast(plain, tricky(1))), beforeLast(plain, tricky(2))];
  vector(
    "batch", "/ingest", { ...bearer, "Content-Type": "application/cloudevents-batch+json; charset=utf-8" },
    ` [${text(`batch-${number}`, pair[0], false)} ,\n${text(`other-${number}`, pair[1], true)}]\n`,
    [`batch-${number}`, pair[0]], [`other-${number}`, pair[1]],
  );
  const binary = beforeLast(plain, tricky(3));
  const ce = { "ce-specversion": "1.0", "ce-id": `binary-${number}%20%C3%A9%22`, "ce-type": type, "ce-time": times[0] };
  vector(
    "binary", "/ingest", { ...bearer, ...ce, "Content-Type": "application/json" },
    binary, [`binary-${number} é"`, binary],
  );
  const relayed = beforeLast(beforeLast(plain, tricky(4)), ROUNDED);
  const relayedTimes = RELAYED_TIMES[number % RELAYED_TIMES.length];
  const body = text(`relay-${number}`, relayed, number % 3 === 0, relayedTimes);
  const signature = sign(RELAY_SECRET, body);
  vector(
    "relay", "/ingest/relay/golden",
    { "Content-Type": "application/json", "X-AKENEO-SIGNATURE-PRIMARY": signature },
    body, [`relay-${number}`, relayed, relayedTimes],
  );
}

function uuid5(namespace, name) {
  const bytes = createHash("sha1").update(Buffer.from(namespace.replaceAll("-", ""), "hex")).update(name).digest();
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]].map(([from, to]) => hex.slice(from, to)).join("-");
}
const NAMESPACE = uuid5("6ba7b811-9dad-11d1-80b4-00c04fd430c8", PIM); // in RFC 9562's namespace of URLs

const signedByPim = (body) => ({
  "Content-Type": "application/json",
  "X-Akeneo-Request-Signature": sign(EVENTS_API_SECRET, `${NOW}.${body}`),
  "X-Akeneo-Request-Timestamp": String(NOW),
});

function eventsApi(entity, action, becomes, number) {
  const type = `com.akeneo.pim.v1.${entity.replace("_", "-")}.${becomes}`;
  const uuid = "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55";
  const identifier = "LMP/001 é \u2028";
  const madeUp = uuid5(NAMESPACE, identifier);
  const tricky = TRICKY.filter((text) => !text.includes("lone")); // PHP writes no halves of surrogate pairs
  const values = `"values":{"size":[{"locale":null,"scope":null,"data":1.0}],"1":[]},${tricky[number]}`;
  const cases = entity === "product_model"
    ? [[{ code: "lampe/é" }, { code: "lampe/é" }]]
    : [
        [{ uuid, identifier }, { uuid, identifier }],
        [{ uuid, identifier: null }, { uuid }],
        [{ uuid }, { uuid }],
        [{ identifier }, { uuid: madeUp, identifier }],
        [{ uuid: null, identifier }, { uuid: madeUp, identifier }],
      ];
  const authors = [
    ["ui", "julia/é", { identifier: "julia/é", type: "user" }],
    ["api", CLIENT.username, { identifier: CLIENT.client_id, type: "api" }],
    ["api", "another", { identifier: "another", type: "api" }],
    ["system", "system", { identifier: "system", type: "system" }],
    ["workflow", "x", { identifier: "x", type: "unknown-user-type" }],
  ];
  const events = authors.map(([kind, name, author], index) => {
    const [resource, told] = cases[index % cases.length];
    const id = `${uuid.slice(0, -2)}${number}${index}`;
    const [given, time] = index % 2
      ? ["2026-01-31T12:59:59+01:00", "2026-01-31T11:59:59Z"]
      : ["2026-01-31T11:59:59+0000", "2026-01-31T11:59:59Z"];
    const fields = { action: `${entity}.${action}`, event_id: id, event_datetime: given, author: name };
    const rest = { author_type: kind, pim_source: "http://localhost:8080/" };
    const text = JSON.stringify({ ...fields, ...rest, data: 0 });
    const data = beforeLast(JSON.stringify(resource), values);
    return { text: text.replace('"data":0', () => `"data":{"resource":${data}}`), id, time, data: { [entity]: told, author } };
  });
  const body = php(`{"events":[${events.map(({ text }) => text).join(",")}]}`);
  const headers = signedByPim(body);
  write({ type, format: "events-api", path: "/ingest/events-api/golden", headers, body, ...delivered(type, events) });
}

catalog.forEach(cloudEvents);
["product", "product_model"].forEach((entity, half) =>
  [["created", "created"], ["updated", "updated"], ["removed", "deleted"]].forEach(([action, becomes], third) =>
    eventsApi(entity, action, becomes, 3 * half + third),
  ),
);

// Bodies of a PIM's Events API as each version of it builds them, in values of our own. `pim` names the version.
//
// 5.0.0 and 5.0.1 call the time event_date. Before 7.0 a product has no UUID. From 7.0 on there is an option to send UUIDs: with it a
// product has its identifier among its values only, under the identifier attribute (`sku` here), but a removed one has both.
const SKU = "lamp/12 é";
const OWN_UUID = "5b0d9e57-6f0e-4d0a-8a0e-0f9c53a5f0b1";
const DATES = { created: "2025-11-03T08:15:00+00:00", updated: "2026-01-31T11:59:58+00:00" };
const text = (data, locale = null) => [{ locale, scope: null, data }];
const VALUES = {
  name: text("Lampe à poser", "fr_FR"),
  weight: text({ amount: "1.2000", unit: "KILOGRAM" }),
  is_sold: text(true),
  price: text([{ amount: "19.90", currency: "EUR" }]),
};
const links = (products) => ({ PACK: { products, product_models: [], groups: [] } });
const product = (first, values, products) => ({
  ...first, enabled: true, family: "lamps", categories: ["indoor", "sale_2026"], groups: [], parent: null, values, ...DATES,
  associations: links(products), quantified_associations: {},
});
const withIdentifier = (first) => product(first, VALUES, ["bulb-3"]);
const MODEL = {
  code: "lamps/é", family: "lamps", family_variant: "lamps_by_colour", parent: null, categories: ["indoor"],
  values: { name: VALUES.name }, ...DATES, associations: {}, quantified_associations: {}, metadata: { workflow_status: "working_copy" },
};
const OLD = { saved: withIdentifier({ identifier: SKU }), removed: { identifier: SKU }, told: { uuid: uuid5(NAMESPACE, SKU), identifier: SKU } };
const BOTH = { told: { uuid: OWN_UUID, identifier: SKU }, removed: { identifier: SKU, uuid: OWN_UUID } };
const PIMS = {
  "5.0.1": { ...OLD, time: "event_date" },
  "5.0.2": OLD,
  "6.0": OLD,
  "7.0": { ...BOTH, saved: withIdentifier({ uuid: OWN_UUID, identifier: SKU }) },
  "7.0 with UUIDs": { ...BOTH, saved: product({ uuid: OWN_UUID }, { sku: text(SKU), ...VALUES }, [OWN_UUID]) },
};

function asSentBy(pim, { saved, removed, told, time = "event_datetime" }, number) {
  const cases = { product: [saved, removed, told], product_model: [MODEL, { code: MODEL.code }, { code: MODEL.code }] };
  Object.entries(cases).forEach(([entity, [onSave, onRemoval, known]], half) =>
    [["created", "created"], ["updated", "updated"], ["removed", "deleted"]].forEach(([action, becomes], third) => {
      const id = `c2a5cf3e-0000-4000-8000-0000000000${number}${3 * half + third}`;
      const head = { action: `${entity}.${action}`, event_id: id, [time]: "2026-01-31T12:59:59+01:00", author: "julia", author_type: "ui" };
      const data = { resource: action === "removed" ? onRemoval : onSave };
      const body = php(JSON.stringify({ events: [{ ...head, pim_source: "http://localhost:8080", data }] }));
      const event = { id, time: "2026-01-31T11:59:59Z", data: { [entity]: known, author: { identifier: "julia", type: "user" } } };
      const type = `com.akeneo.pim.v1.${entity.replace("_", "-")}.${becomes}`;
      write({ pim, type, format: "events-api", path: "/ingest/events-api/golden", headers: signedByPim(body), body, ...delivered(type, [event]) });
    }),
  );
}
Object.entries(PIMS).forEach(([pim, bodies], number) => asSentBy(pim, bodies, number));

// A client of a pipeline, with kafkajs; deploy/clients.md says what it does and why.
//
// node client.js --pipeline card-fraud ask --key customer_id < events.jsonl
// node client.js --pipeline card-fraud follow --journal decisions.jsonl
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Kafka, Partitioners, logLevel } from "kafkajs";
import { Journal, endOf } from "./records.js";

/** How to reach the broker: TLS where KAFKA_CA is set, a login where KAFKA_USERNAME is. */
function connection(broker) {
  const { KAFKA_CA: authority, KAFKA_USERNAME: username, KAFKA_PASSWORD: password } = process.env;
  return new Kafka({
    brokers: broker.split(","),
    clientId: "anabranch-client",
    logLevel: logLevel.ERROR,
    ...(authority && { ssl: { ca: [readFileSync(authority, "utf8")] } }),
    ...(username && { sasl: { mechanism: "scram-sha-512", username, password } }),
  });
}

/** Read topics from *start* on: a list of topic, partition and offset.
 *
 * kafkajs reads in groups alone: this one has one member, commits nothing, and is deleted again. A
 * name of its own spares it the wait for the session of a member that was killed.
 */
async function reading(kafka, pipeline, start, onBatch) {
  const groupId = `${pipeline}.consumer.${randomUUID()}`;
  const consumer = kafka.consumer({ groupId, readUncommitted: false });
  const positions = new Map(start.map(({ topic, partition, offset }) => [`${topic}/${partition}`, BigInt(offset)]));
  const failed = new Promise((_, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error));
  });
  failed.catch(() => {});
  const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve));
  await consumer.connect();
  await consumer.subscribe({ topics: [...new Set(start.map(({ topic }) => topic))], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      const from = positions.get(`${batch.topic}/${batch.partition}`);
      onBatch(batch.topic, batch.partition, batch.messages.filter(({ offset }) => BigInt(offset) >= from));
    },
  });
  await Promise.race([joined, failed]);
  for (const position of start) consumer.seek(position);
  const stop = async () => {
    await consumer.disconnect();
    // Who may not delete it leaves it to the broker, which forgets empty groups.
    await withAdmin(kafka, (admin) => admin.deleteGroups([groupId])).catch(() => {});
  };
  return { failed, stop };
}

/** What *question* comes to, asked of an admin client. */
async function withAdmin(kafka, question) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await question(admin);
  } finally {
    await admin.disconnect();
  }
}

/** Publish events, wait for how each ends, print that in order; 0 if all are decided. */
async function ask(kafka, pipeline, { key, "deadline-s": deadline }) {
  const lines = readFileSync(0, "utf8").split("\n").filter((line) => line.trim());
  const messages = lines.map((value) => ({ key: String(JSON.parse(value)[key]), value }));
  // From the ends on, as they are before anything is published: no answer can be missed.
  const start = [];
  for (const topic of [`${pipeline}.decisions`, `${pipeline}.dead-letters`]) {
    const ends = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
    start.push(...ends.map(({ partition, high }) => ({ topic, partition, offset: high })));
  }
  const producer = kafka.producer({
    idempotent: true, maxInFlightRequests: 1, createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  const sources = []; // one by one: so each place is known, and their order stays
  for (const message of messages) {
    try {
      const [place] = await producer.send({ topic: `${pipeline}.events`, acks: -1, messages: [message] });
      sources.push(`${place.topicName}/${place.partition}/${place.baseOffset}`);
    } catch {
      sources.push(null);
    }
  }
  await producer.disconnect();

  const waiting = new Set(sources.filter((source) => source !== null));
  const ends = new Map();
  const reader = await reading(kafka, pipeline, start, (topic, _, records) => {
    for (const record of records) {
      const [source, end] = endOf(topic, record) ?? [];
      if (waiting.delete(source)) ends.set(source, end);
    }
  });
  for (const until = Date.now() + 1000 * deadline; waiting.size && Date.now() < until;) {
    await Promise.race([sleep(50), reader.failed]);
  }
  await reader.stop();

  const unconfirmed = { error: "not confirmed: it may be published all the same" };
  const pending = { error: "no decision yet: it is published, and will be decided" };
  for (const source of sources) {
    const end = source === null ? unconfirmed : ends.get(source) ?? pending;
    console.log(JSON.stringify({ source, ...end }));
  }
  return sources.every((source) => ends.get(source)?.decision) ? 0 : 1;
}

/** Write the decision about each event into the journal, once; go on where it ends. */
async function follow(kafka, pipeline, { journal: path, "idle-s": idle }) {
  const topic = `${pipeline}.decisions`;
  const journal = new Journal(path);
  const partitions = await withAdmin(kafka, (admin) => admin.fetchTopicOffsets(topic));
  const start = partitions.map(({ partition, low }) => ({
    topic, partition, offset: String(Math.max(journal.next.get(partition) ?? 0, Number(low))),
  }));
  let last;
  const reader = await reading(kafka, pipeline, start, (_, partition, records) => {
    for (const record of records) {
      const [, end] = endOf(topic, record) ?? [];
      if (end) journal.add(partition, Number(record.offset), end);
      last = Date.now();
    }
    journal.flush();
  });
  last = Date.now();
  while (idle === undefined || Date.now() < last + 1000 * idle) {
    await Promise.race([sleep(100), reader.failed]);
  }
  await reader.stop();
  journal.close();
  return 0;
}

const { values, positionals: [command] } = parseArgs({
  allowPositionals: true,
  options: {
    broker: { type: "string", default: "localhost:9092" },
    pipeline: { type: "string" },
    key: { type: "string" },
    "deadline-s": { type: "string", default: "30" },
    journal: { type: "string" },
    "idle-s": { type: "string" },
  },
});
const commands = { ask, follow };
if (!values.pipeline || !(command === "ask" ? values.key : command === "follow" && values.journal)) {
  console.error("client.js --pipeline NAME ask --key FIELD | follow --journal FILE");
  process.exit(2);
}
process.exitCode = await commands[command](connection(values.broker), values.pipeline, values);

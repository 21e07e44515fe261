// What a pipeline's records say, and the file that its decisions are kept in.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";

const SCHEMA = 1; // a decision of a later one means something else: stop, and read the changelog

const text = (headers, name) => headers?.[name]?.toString() ?? "";

/** Which event a record ends, as TOPIC/PARTITION/OFFSET, and how; null if it ends none. */
export function endOf(topic, { headers, value }) {
  if (topic.endsWith(".dead-letters")) {
    const place = ["topic", "partition", "offset"].map((name) => text(headers, `x-error-${name}`));
    const told = ["stage", "class", "reason", "attempt"];
    const letter = Object.fromEntries(told.map((name) => [name, text(headers, `x-error-${name}`)]));
    return place.every(Boolean) ? [place.join("/"), { dead_letter: letter }] : null;
  }
  if (value === null || text(headers, "ce_type") !== "anabranch.decision") return null;
  const decision = JSON.parse(value.toString());
  if ((decision.schema ?? 0) > SCHEMA) throw new Error(`${topic}: a decision of schema ${decision.schema}`);
  const attempt = Number(text(headers, "x-redrive-attempt") || 1);
  return [text(headers, "ce_id"), { attempt, decision }];
}

/** A file of decisions, each event once; it also says how far each partition is read.
 *
 * Both stand in one line, which is there or not. So after a crash nothing is lost, and what is read
 * again is known. One process writes it.
 */
export class Journal {
  #events = new Set();
  #file;
  #lines = [];
  next = new Map(); // partition → the offset to go on at

  constructor(path) {
    const content = existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
    const whole = content.subarray(0, content.lastIndexOf("\n") + 1);
    for (const line of whole.toString().split("\n").filter(Boolean)) this.#count(JSON.parse(line));
    this.#file = openSync(path, "a");
    truncateSync(path, whole.length);
  }

  /** Take in a decision, unless its event has one: redriven, it is the same event. */
  add(partition, offset, { attempt, decision }) {
    const { event_id, score, degraded, origin, source } = decision;
    const { topic, partition: of, offset: at } = origin ?? source;
    const entry = {
      event: `${topic}/${of}/${at}`, at: [partition, offset], attempt, event_id,
      decision: decision.decision, score, degraded,
    };
    if (this.#events.has(entry.event)) return;
    this.#count(entry);
    this.#lines.push(`${JSON.stringify(entry)}\n`);
  }

  /** Return once everything is on the disk. */
  flush() {
    writeSync(this.#file, this.#lines.join(""));
    fsyncSync(this.#file);
    this.#lines = [];
  }

  close() {
    closeSync(this.#file);
  }

  #count({ event, at: [partition, offset] }) {
    this.#events.add(event);
    this.next.set(partition, offset + 1);
  }
}

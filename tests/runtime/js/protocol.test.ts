import assert from "node:assert/strict";
import golden from "../golden/frames.json" with { type: "json" };
import { Decoder, Encoder, type Frame, utf8Length } from "../../../src/statebacked/runtime/js/protocol.ts";

const frames: { name: string; header: { t: string }; sections: string[]; bytes?: string; hex: string }[] =
  golden;
const bytes = (hex: string): Uint8Array => Uint8Array.fromHex(hex);
const plain = ({ header, sections, bytes }: Frame) => {
  const { raw: _, ...rest } = header as { t: string; raw?: number[] };
  return { header: rest, sections: [...sections], bytes: bytes?.toHex() };
};
const expected = frames.map(({ header, sections, bytes }) => ({ header, sections, bytes }));
const push = (encoder: Encoder, { header, sections, bytes: hex }: typeof frames[number]): boolean => {
  if (hex === undefined) return encoder.push(header, sections, 1_000_000);
  encoder.pushBytes(header, bytes(hex));
  return true;
};
const stream = bytes(frames.map((frame) => frame.hex).join(""));

Deno.test("every golden frame is encoded to its bytes", () => {
  for (const frame of frames) {
    const encoder = new Encoder();
    assert(push(encoder, frame));
    assert.equal(encoder.take().toHex(), frame.hex, frame.name);
  }
});

Deno.test("frames that are pushed together are written together", () => {
  const encoder = new Encoder();
  for (const frame of frames) push(encoder, frame);
  assert.equal(encoder.take().toHex(), stream.toHex());
  assert(encoder.isEmpty);
});

Deno.test("golden frames are decoded wherever the stream is split", () => {
  for (let size = 1; size < 700; size += size < 20 ? 1 : 37) {
    const decoder = new Decoder();
    const found: Frame[] = [];
    const chunk = new Uint8Array(size);
    for (let at = 0; at < stream.length; at += size) {
      const part = stream.subarray(at, at + size);
      chunk.set(part);
      found.push(...decoder.feed(chunk.subarray(0, part.length)));
      chunk.fill(0xff); // the buffer is the reader's, and used again
    }
    assert.deepEqual(found.map(plain), expected, `in chunks of ${size}`);
  }
});

Deno.test("a long frame between short ones survives growth and compaction", () => {
  const encoder = new Encoder();
  const long = "ü".repeat(700_000);
  encoder.push({ t: "a" }, ["1"], 9_000_000);
  encoder.push({ t: "b" }, [long, "2"], 9_000_000);
  encoder.push({ t: "c" }, [], 9_000_000);
  const all = encoder.take().slice();
  const decoder = new Decoder();
  const found: Frame[] = [];
  for (let at = 0; at < all.length; at += 65_536) found.push(...decoder.feed(all.subarray(at, at + 65_536)));
  assert.deepEqual(found.map((frame) => [frame.header.t, ...frame.sections]), [["a", "1"], ["b", long, "2"], [
    "c",
  ]]);
});

Deno.test("a frame over its limit is not appended", () => {
  const encoder = new Encoder();
  encoder.push({ t: "a" }, [], 100);
  const size = 4 + '{"t":"b","raw":[50]}'.length + 50;
  assert(!encoder.push({ t: "b" }, ["x".repeat(50)], size - 1));
  assert(encoder.push({ t: "b" }, ["x".repeat(50)], size));
  const found = new Decoder().feed(encoder.take());
  assert.deepEqual(found.map((frame) => frame.header.t), ["a", "b"]);
});

Deno.test("nonsense from the host is an error, not a wait for gigabytes", () => {
  assert.throws(() => new Decoder().feed(new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])));
  assert.throws(() => new Decoder().feed(new Uint8Array([0, 0, 0, 6, 0, 0, 0, 9, 0x7b, 0x7d])));
});

Deno.test("the length in UTF-8 is that of the encoder", () => {
  for (const text of ["", "abc", "é", "€", "🐢", "a🐢b€", "\ud800", "\udc00x", "\ud800\ud800\udc00"]) {
    assert.equal(utf8Length(text), new TextEncoder().encode(text).length, JSON.stringify(text));
  }
});

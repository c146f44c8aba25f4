// Frames of the worker protocol, sans I/O: bytes in, frames out, and back (docs/reference/worker-protocol.md).
// Sections are handed over as text: they are JSON, or the bundle's JavaScript. A frame whose header length has its
// highest bit set has one section, of bytes.

/** One frame as received. `header` is what its JSON gives; the host is trusted to send what the protocol says. */
export interface Frame {
  readonly header: { readonly t: string };
  readonly sections: readonly string[];
  /** The section of a frame of bytes, the receiver's to keep. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
}

const PREFIX_BYTES = 8;
const FRAME_BYTES_MAX = 16_000_000;
const OF_BYTES = 0x8000_0000;
const KEPT_BYTES_MAX = 1_000_000; // a larger buffer is given back after use

const { parse, stringify } = JSON;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();
const decode = decoder.decode.bind(decoder);
const encodeInto = encoder.encodeInto.bind(encoder);

/** Collects bytes that arrive split anywhere and yields whole frames. */
export class Decoder {
  #kept = new Uint8Array(0);
  #length = 0;

  /** The frames that `chunk` completes. The chunk may be reused by the caller afterwards. */
  feed(chunk: Uint8Array): Frame[] {
    if (this.#length === 0) {
      const frames: Frame[] = [];
      const used = readFrames(chunk, frames);
      if (used < chunk.length) this.#keep(chunk.subarray(used));
      return frames;
    }
    this.#keep(chunk);
    const frames: Frame[] = [];
    const used = readFrames(this.#kept.subarray(0, this.#length), frames);
    if (used > 0) this.#drop(used);
    return frames;
  }

  #keep(bytes: Uint8Array): void {
    const needed = this.#length + bytes.length;
    if (needed > this.#kept.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#kept.length, 4_096));
      larger.set(this.#kept.subarray(0, this.#length));
      this.#kept = larger;
    }
    this.#kept.set(bytes, this.#length);
    this.#length = needed;
  }

  #drop(used: number): void {
    this.#kept.copyWithin(0, used, this.#length);
    this.#length -= used;
    if (this.#length === 0 && this.#kept.length > KEPT_BYTES_MAX) this.#kept = new Uint8Array(0);
  }
}

/** Appends the whole frames at the start of `bytes` to `frames`; returns how many bytes they take. */
function readFrames(bytes: Uint8Array, frames: Frame[]): number {
  let at = 0;
  while (bytes.length - at >= PREFIX_BYTES) {
    const length = readU32(bytes, at);
    if (length < 4 || length > FRAME_BYTES_MAX) throw new Error(`a frame of ${length} bytes`);
    if (bytes.length - at - 4 < length) break;
    frames.push(readFrame(bytes, at + 4, length));
    at += 4 + length;
  }
  return at;
}

function readFrame(bytes: Uint8Array, at: number, length: number): Frame {
  const headerBytes = readU32(bytes, at);
  const body = bytes.subarray(at + 4, at + length);
  if (headerBytes >= OF_BYTES) return ofBytes(body, headerBytes - OF_BYTES);
  if (headerBytes > body.length) throw new Error("a header longer than its frame");
  const text = decode(body);
  if (text.length === body.length) return fromAscii(text, headerBytes);
  const header = readHeader(decode(body.subarray(0, headerBytes)));
  const sections: string[] = [];
  let start = headerBytes;
  for (const size of header.raw ?? []) sections.push(decode(body.subarray(start, start += size)));
  return { header, sections };
}

/** The common case: one decode for the whole frame, then slices. */
function fromAscii(text: string, headerBytes: number): Frame {
  const header = readHeader(text.slice(0, headerBytes));
  const sections: string[] = [];
  let start = headerBytes;
  for (const size of header.raw ?? []) sections.push(text.slice(start, start += size));
  return { header, sections };
}

function ofBytes(body: Uint8Array, headerBytes: number): Frame {
  if (headerBytes > body.length) throw new Error("a header longer than its frame");
  const header = readHeader(decode(body.subarray(0, headerBytes)));
  return { header, sections: [], bytes: body.slice(headerBytes) as Uint8Array<ArrayBuffer> };
}

function readHeader(text: string): { t: string; raw?: number[] } {
  return parse(text) as { t: string; raw?: number[] };
}

function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Collects frames to be written in one go. */
export class Encoder {
  #out = new Uint8Array(65_536);
  #length = 0;
  #scratch = new Uint8Array(65_536);

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** Append a frame; false, and nothing appended, when it would be longer than `bytesMax`. */
  push(header: { readonly t: string }, sections: readonly string[], bytesMax: number): boolean {
    if (sections.length === 0) return this.#append(stringify(header), 0, bytesMax);
    const joined = sections.length === 1 ? sections[0]! : sections.join("");
    if (this.#scratch.length < 3 * joined.length) this.#scratch = new Uint8Array(3 * joined.length);
    const bytes = encodeInto(joined, this.#scratch).written;
    const ascii = bytes === joined.length;
    const sizes = sections.map((section) => ascii ? section.length : utf8Length(section));
    return this.#append(`${stringify(header).slice(0, -1)},"raw":[${sizes.join()}]}`, bytes, bytesMax);
  }

  /** Append a frame whose one section is `bytes`. */
  pushBytes(header: { readonly t: string }, bytes: Uint8Array): void {
    if (this.#scratch.length < bytes.length) this.#scratch = new Uint8Array(bytes.length);
    this.#scratch.set(bytes);
    const at = this.#length + 4;
    const head = `${stringify(header).slice(0, -1)},"raw":[${bytes.length}]}`;
    this.#append(head, bytes.length, FRAME_BYTES_MAX);
    this.#out[at]! |= OF_BYTES >>> 24;
  }

  /** Everything appended so far, to be written before the next `push`. */
  take(): Uint8Array {
    const bytes = this.#out.subarray(0, this.#length);
    this.#length = 0;
    if (this.#out.length > KEPT_BYTES_MAX) this.#out = new Uint8Array(65_536);
    if (this.#scratch.length > KEPT_BYTES_MAX) this.#scratch = new Uint8Array(65_536);
    return bytes;
  }

  #append(header: string, sectionBytes: number, bytesMax: number): boolean {
    this.#reserve(PREFIX_BYTES + 3 * header.length + sectionBytes);
    const at = this.#length;
    const headerBytes = encodeInto(header, this.#out.subarray(at + PREFIX_BYTES)).written;
    const length = 4 + headerBytes + sectionBytes;
    if (length > bytesMax) return false;
    writeU32(this.#out, at, length);
    writeU32(this.#out, at + 4, headerBytes);
    this.#out.set(this.#scratch.subarray(0, sectionBytes), at + PREFIX_BYTES + headerBytes);
    this.#length = at + 4 + length;
    return true;
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#out.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#out.length));
    larger.set(this.#out.subarray(0, this.#length));
    this.#out = larger;
  }
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** How many bytes `text` takes in UTF-8; a lone surrogate takes the three of U+FFFD. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else if (unit >= 0xd800 && unit < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      bytes += 2;
      i += 1;
    } else bytes += 2;
  }
  return bytes;
}

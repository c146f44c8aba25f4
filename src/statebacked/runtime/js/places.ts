// Where in machine code something happened, in the words of its author. Deno itself maps the places of a stack trace
// with the source map at the end of a bundle; the names that it then has for files are shortened here.

/** What the server puts before the path of each source file, so that Deno takes it for a URL. */
const SOURCE = "statebacked-source:///";
const MAP_MARK = "\n//# sourceMappingURL=data:application/json;base64,";
const CAUSES_MAX = 5;
const FRAMES_MAX = 10;
const FRAME_OF_MACHINE_CODE = /^\s+at .*(?:\bblob:|\bstatebacked-source:)/;
const SOURCE_PATH = /statebacked-source:\/\/\/([^\s()'"]*)/g;
const SOURCE_PLACE = /^[^\s()'"]*:\d+:\d+/;
const PLACE_CHARACTERS_MAX = 1_000;

const decode = decodeURI;
let moduleUrl: string | null = null;

/**
 * The code as it may be imported: its last magic comment is its source map or names none. Deno reads the file that such
 * a comment names, without asking for a permission.
 */
export function closed(code: string): string {
  const mark = code.lastIndexOf(MAP_MARK);
  const hasMap = mark >= 0 && code.slice(mark + 1).trimEnd().indexOf("\n") === -1;
  return hasMap ? code : `${code}\n//# sourceMappingURL=`;
}

/** Tells under which URL the machine's module is imported. */
export function named(url: string): void {
  moduleUrl = url;
}

/** A text with the places in it as the author of the machine knows them. */
export function readable(text: string): string {
  const mapped = text.includes(SOURCE) ? text.replace(SOURCE_PATH, (_, path: string) => decoded(path)) : text;
  return moduleUrl !== null && mapped.includes(moduleUrl) ? mapped.replaceAll(moduleUrl, "bundle") : mapped;
}

/** The frames of something thrown that are machine code; of its cause when none is. None when it has no stack. */
export function framesOf(thrown: unknown): string[] {
  let error = thrown;
  try {
    for (let depth = 0; depth < CAUSES_MAX && typeof error === "object" && error !== null; depth += 1) {
      const { stack, cause } = error as { stack?: unknown; cause?: unknown };
      const lines = typeof stack === "string" ? stack.split("\n") : [];
      const frames = lines.filter((line) => FRAME_OF_MACHINE_CODE.test(line)).slice(0, FRAMES_MAX);
      if (frames.length > 0) return frames;
      error = cause;
    }
  } catch {
    // A getter of the machine's own.
  }
  return [];
}

/** The place in the source where something was thrown: file:line:column; null where no source map tells. */
export function sourceOf(thrown: unknown): string | null {
  for (const frame of framesOf(thrown)) {
    const at = frame.lastIndexOf(SOURCE);
    const place = at < 0 ? undefined : SOURCE_PLACE.exec(frame.slice(at, at + PLACE_CHARACTERS_MAX))?.[0];
    if (place !== undefined) return readable(place);
  }
  return null;
}

function decoded(path: string): string {
  try {
    return decode(path);
  } catch {
    return path;
  }
}

import { messageOf } from '../../errors.js';
import { describe } from '../../validate.js';
import { beginsTokenFile } from '../token-file.js';
import type { Problem } from './bad-records.js';
import { hexadecimal } from './compression.js';
import { type Encoding, likelyEncoding, NO_CHARACTER } from './encoding.js';
import { MAX_LINE } from './lines.js';
import type { TextVisitor } from './read-chunk.js';
import type { LineFormat } from './text-source.js';
import { firstBadByte } from './utf8.js';

/** A line among others. */
export interface Line {
  bytes: Buffer;
  start: number;
  /** Where its line end is, or the bytes end. */
  end: number;
  /** Whether a `\n` ended it: only the last line of all may have none. */
  ended: boolean;
  /** Of its first byte, in its file. */
  offset: number;
  /** Whether all of the bytes are known to be UTF-8. */
  wellFormed: boolean;
}

/** Hands the text of a line to a visitor, if it holds one, or says what is wrong with it. */
export type ReadLine = (line: Line, visitor: TextVisitor) => Problem | undefined;

/** The problem of a file that is JSON, but not in lines. */
const ARRAY: Problem = {
  what: 'begins a JSON array',
  expected: 'a JSON object in each line',
  hint: "make JSON lines of it: jq -c '.[]' FILE.json > FILE.jsonl",
};

/** The problem of a line that was not kept. */
const TOO_LONG: Problem = {
  what: 'is too long a line',
  expected: `at most ${MAX_LINE} bytes`,
  received: 'more',
  hint: 'cut it into several lines; a line end is \\n or \\r\\n, not \\r alone',
};

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = '\ufeff';

/**
 * A line is a text, without the `\n` or `\r\n` at its end, or with a `\n` where line breaks are kept. All else is text: a byte
 * order mark, as Python has it, and a lone `\r`, at which Python would end the line.
 */
export function textReader({ encoding, keepLinebreaks }: LineFormat): ReadLine {
  return (line, visitor) => {
    const { bytes, start, end, ended, offset } = line;
    const problem = malformed(line, encoding);
    if (problem !== undefined) return problem;
    const carriage = ended && end > start && bytes[end - 1] === CARRIAGE_RETURN;
    const textEnd = carriage ? end - 1 : end;
    const kept = ended && keepLinebreaks;
    if (kept) bytes[textEnd] = NEWLINE;
    visitor.utf8(bytes, start, kept ? textEnd + 1 : textEnd, offset);
    return undefined;
  };
}

/**
 * A line is a JSON object (RFC 8259) with the text as a string in one of its fields, and in another one the prompt before it
 * where that is named. Lines of nothing but white space are passed over, and so is a byte order mark at the beginning.
 */
export function jsonReader({ field, promptField, encoding }: LineFormat): ReadLine {
  return (line, visitor) => {
    const problem = malformed(line, encoding);
    if (problem !== undefined) return problem;
    const { bytes, start, end, offset } = line;
    const content = bytes.toString('utf8', start, end);
    const json = offset === 0 && content.startsWith(BYTE_ORDER_MARK) ? content.slice(1) : content;
    if (/^[ \t\r]*$/.test(json)) return undefined;
    const array = offset === 0 && beginsArray(json);
    let record: unknown;
    try {
      record = JSON.parse(json);
    } catch (cause) {
      return array ? ARRAY : { what: `is not JSON (${messageOf(cause)})`, cause };
    }
    // To leave out what is bad would leave nothing, or the last record alone. A list of names may stand before records.
    if (array && (record as unknown[]).some((item) => typeof item === 'object')) return ARRAY;
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      return { what: 'is not a record', expected: 'a JSON object', received: describe(record) };
    }
    const fields = () => Object.keys(record);
    const read = (name: string, flag: TextFlag) =>
      checkText(Object.hasOwn(record, name) ? (record as { [key: string]: unknown })[name] : undefined, name, {
        fields,
        flag,
      });
    const prompt = promptField === undefined ? undefined : read(promptField, '--prompt-field');
    if (typeof prompt === 'object') return prompt;
    const text = read(field, '--text-field');
    if (typeof text !== 'string') return text;
    if (prompt !== undefined) return visitor.pair?.(prompt, text, offset);
    visitor.text(text, offset);
    return undefined;
  };
}

/** The option that names a field. */
type TextFlag = '--text-field' | '--prompt-field';

/** A text from a record's field, or what is wrong with it. */
export function checkText(
  value: unknown,
  field: string,
  { fields, flag }: { fields: () => string[]; flag: TextFlag },
): string | Problem {
  if (value === undefined) {
    const found = fields()
      .slice(0, 8)
      .map((name) => describe(name));
    return {
      what: `has no field '${field}'`,
      received: found.length === 0 ? 'no fields' : found.join(', '),
      hint: `name the field that holds the ${flag === '--text-field' ? 'text' : 'prompt'} with ${flag}`,
    };
  }
  if (typeof value !== 'string')
    return { what: `has no text in '${field}'`, expected: 'a string', received: describe(value) };
  const lone = /\p{Surrogate}/u.exec(value);
  if (lone === null) return value;
  return {
    what: `holds half a character in '${field}'`,
    expected: 'both halves of a surrogate pair',
    received: `\\u${value.charCodeAt(lone.index).toString(16)} alone`,
  };
}

/**
 * The problem of a line that was not kept.
 *
 * @param head its first bytes
 */
export function tooLongProblem(format: 'text' | 'jsonl', offset: number, head: Uint8Array): Problem {
  return format === 'jsonl' && offset === 0 && beginsArray(Buffer.from(head).toString('utf8')) ? ARRAY : TOO_LONG;
}

/** Whether a JSON text is an array, behind a byte order mark or none. */
function beginsArray(json: string): boolean {
  return /^\ufeff?[ \t\r]*\[/.test(json);
}

function malformed({ bytes, start, end, offset, wellFormed }: Line, encoding: Encoding): Problem | undefined {
  if (encoding !== 'utf-8') return undecodable(bytes.subarray(start, end), encoding);
  if (wellFormed) return undefined;
  const line = bytes.subarray(start, end);
  const bad = firstBadByte(line);
  return bad < 0 ? undefined : notUtf8(line, offset, bad);
}

/** The problem of a line that holds bytes which were no character. */
function undecodable(line: Buffer, encoding: Encoding): Problem | undefined {
  const at = line.indexOf(NO_CHARACTER);
  if (at < 0) return undefined;
  const before = line.toString('utf8', Math.max(0, at - 30), at).replace(/^\ufffd+/, '');
  return {
    what: `is not ${encoding} throughout`,
    expected: `text in ${encoding}, as the encoding says`,
    received: before === '' ? 'other bytes at its beginning' : `other bytes behind ${describe(before)}`,
  };
}

function notUtf8(bytes: Uint8Array, offset: number, bad: number): Problem {
  const found = bytes.subarray(bad, bad + 4);
  const likely = likelyEncoding(bytes);
  const utf16 =
    offset + bad === 0 && ((found[0] === 0xff && found[1] === 0xfe) || (found[0] === 0xfe && found[1] === 0xff));
  return {
    what: `is not UTF-8 at byte ${offset + bad}`,
    expected: 'UTF-8 text',
    received: `the bytes ${hexadecimal(found)}`,
    hint: utf16
      ? `name its encoding: --encoding utf-16${found[0] === 0xff ? 'le' : 'be'} (API: encoding)`
      : offset + bad === 0 && beginsTokenFile(found)
        ? 'this is a token file: train and evaluate take it as it is, its name ending in .bin (API: TokenDataset)'
        : likely === undefined
          ? undefined
          : `it may be ${likely}: --encoding ${likely} (API: encoding)`,
  };
}

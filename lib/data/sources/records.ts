import { messageOf } from '../../errors.js';
import { describe } from '../../validate.js';
import type { Problem } from './bad-records.js';
import { hexadecimal } from './compression.js';
import { type Line, MAX_LINE } from './lines.js';
import { firstBadByte } from './utf8.js';

/** The text of a line, what is wrong with it, or undefined for a line that holds no record. */
export type ReadRecord = (line: Line) => string | Problem | undefined;

const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = '\ufeff';

/** A line is a text, without the `\n` or `\r\n` at its end. All else is text, a byte order mark too, as Python has it. */
export function readTextLine({ bytes, offset, ended }: Line): string | Problem {
  if (bytes === undefined) return TOO_LONG;
  const bad = firstBadByte(bytes);
  if (bad >= 0) return notUtf8(bytes, offset, bad);
  const end = ended && bytes.at(-1) === CARRIAGE_RETURN ? bytes.length - 1 : bytes.length;
  return bytes.toString('utf8', 0, end);
}

/**
 * A line is a JSON object (RFC 8259) with the text as a string in one of its fields. Lines of nothing but white space are
 * passed over, and so is a byte order mark at the beginning.
 */
export function jsonReader(field: string): ReadRecord {
  return ({ bytes, offset }) => {
    if (bytes === undefined) return TOO_LONG;
    const bad = firstBadByte(bytes);
    if (bad >= 0) return notUtf8(bytes, offset, bad);
    const line = bytes.toString('utf8');
    const json = offset === 0 && line.startsWith(BYTE_ORDER_MARK) ? line.slice(1) : line;
    if (/^[ \t\r]*$/.test(json)) return undefined;
    let record: unknown;
    try {
      record = JSON.parse(json);
    } catch (cause) {
      return { what: `is not JSON (${messageOf(cause)})`, cause };
    }
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      return { what: 'is not a record', expected: 'a JSON object', received: describe(record) };
    }
    const value = Object.hasOwn(record, field) ? (record as { [key: string]: unknown })[field] : undefined;
    return checkText(value, field, () => Object.keys(record));
  };
}

/** A text from a record's field, or what is wrong with it. */
export function checkText(value: unknown, field: string, fields: () => string[]): string | Problem {
  if (value === undefined) {
    const found = fields()
      .slice(0, 8)
      .map((name) => describe(name));
    return {
      what: `has no field '${field}'`,
      received: found.length === 0 ? 'no fields' : found.join(', '),
      hint: 'name the field that holds the text with --text-field',
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

const TOO_LONG: Problem = {
  what: 'is too long a line',
  expected: `at most ${MAX_LINE} bytes`,
  received: 'more',
  hint: 'cut it into several lines; a line end is \\n or \\r\\n, not \\r alone',
};

function notUtf8(bytes: Uint8Array, offset: number, bad: number): Problem {
  const found = bytes.subarray(bad, bad + 4);
  const utf16 =
    offset + bad === 0 && ((found[0] === 0xff && found[1] === 0xfe) || (found[0] === 0xfe && found[1] === 0xff));
  return {
    what: `is not UTF-8 at byte ${offset + bad}`,
    expected: 'UTF-8 text',
    received: `the bytes ${hexadecimal(found)}`,
    hint: utf16
      ? 'convert the file first: iconv -f UTF-16 -t UTF-8'
      : 'convert the file first, e.g. with iconv -f SHIFT_JIS -t UTF-8 for an older Japanese one',
  };
}

import { isUtf8 } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import {
  type ColumnData,
  type FileMetaData,
  type PageHeader,
  parquetMetadataAsync,
  parquetRead,
  parquetSchema,
  type RowGroup,
} from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { type Compressors, compressors } from 'hyparquet-compressors';
import { alternatives, describe } from '../../validate.js';
import type { Problem } from './bad-records.js';
import { changed } from './changed.js';
import { checkText } from './records.js';

/** The columns that are read. */
export interface ParquetColumns {
  text: string;
  /** What comes before each text, where that is asked for. */
  prompt?: string | undefined;
}

/** Some rows that follow each other. */
export interface ParquetRows {
  /** The first one's index in the file. */
  row: number;
  /** Of each row its text, or what is wrong with it. */
  texts: Cell[];
  /** The same of its prompt, where those are read. */
  prompts: Cell[] | undefined;
}

/** A text, or what is wrong with it. */
type Cell = string | Problem;

/** Bytes of a row group's column, packed and unpacked: what is held at once. */
const MAX_COLUMN = 2 ** 30;

/** UTF-16 units of the texts given at a time. */
const BATCH = 65_536;

/** Stands in for a string whose bytes are not UTF-8. */
const NOT_UTF8 = Symbol('not UTF-8');

/**
 * The texts in a column of a Parquet file, and the prompts in another one. Memory is that of the columns in one row group.
 * Sizes are checked before anything is unpacked, since the decoder trusts them.
 */
export class ParquetTexts {
  private readonly path: string;
  private readonly columns: ParquetColumns;

  constructor(path: string, columns: ParquetColumns) {
    this.path = path;
    this.columns = columns;
  }

  /** @param from index of the first row */
  async *read(from: number): AsyncGenerator<ParquetRows, void> {
    const handle = await open(this.path);
    try {
      const { size } = await handle.stat();
      const metadata = await parquetMetadataAsync({ byteLength: size, slice: (a, b = size) => slice(handle, a, b) });
      const { text, prompt } = this.columns;
      checkColumn(metadata, text, '--text-field');
      if (prompt !== undefined) checkColumn(metadata, prompt, '--prompt-field');
      let start = 0;
      for (const group of metadata.row_groups) {
        const end = start + rowsOf(group, size);
        if (end > from) {
          const read = (column: string) => readGroup(handle, group, { metadata, column, start });
          const texts = await read(text);
          yield* inBatches({ row: start, texts, prompts: prompt === undefined ? undefined : await read(prompt) }, from);
        }
        start = end;
      }
      if (from > start) throw changed(`${this.path} has only ${start} rows, not the ${from} before the place`);
    } finally {
      await handle.close();
    }
  }
}

/** @param flag the option that names the column */
function checkColumn(metadata: FileMetaData, column: string, flag: string): void {
  const columns = parquetSchema(metadata).children;
  const found = columns.find(({ element }) => element.name === column);
  const names = columns.map(({ element }) => describe(element.name));
  if (found === undefined) {
    throw new Error(`it has no column '${column}', but ${alternatives(names)}: name it with ${flag}`);
  }
  const { type, repetition_type: repetition, logical_type: logical, converted_type: converted } = found.element;
  const text = type === 'BYTE_ARRAY' && (logical?.type ?? 'STRING') === 'STRING' && (converted ?? 'UTF8') === 'UTF8';
  if (found.children.length > 0 || repetition === 'REPEATED' || !text) {
    throw new Error(`its column '${column}' holds no strings, but ${logical?.type ?? type ?? 'a nested type'}`);
  }
}

async function readGroup(
  handle: FileHandle,
  group: RowGroup,
  { metadata, column, start }: { metadata: FileMetaData; column: string; start: number },
): Promise<Cell[]> {
  const rows = Number(group.num_rows);
  const packed = await readChunk(handle, group, column);
  checkPages(packed.bytes, rows);
  const texts: Cell[] = [];
  await parquetRead({
    file: { byteLength: packed.end, slice: (a, b = packed.end) => packed.slice(a, b) },
    metadata: { ...metadata, row_groups: [group], num_rows: group.num_rows },
    columns: [column],
    compressors: COMPRESSORS,
    parsers: { stringFromBytes: (bytes: Uint8Array) => (isUtf8(bytes) ? decode(bytes) : NOT_UTF8) },
    onChunk: ({ columnData }: ColumnData) => {
      for (const value of columnData) texts.push(textOf(value, column));
    },
  });
  if (texts.length !== rows) throw new Error(`its rows from ${start} on are ${texts.length} instead of ${rows}`);
  return texts;
}

function* inBatches({ row: start, texts, prompts }: ParquetRows, from: number): Generator<ParquetRows> {
  for (let row = Math.max(from, start); row - start < texts.length; ) {
    const begin = row - start;
    let end = begin;
    for (let size = 0; size < BATCH && end < texts.length; end++) size += sizeOf(texts[end]) + sizeOf(prompts?.[end]);
    yield { row, texts: texts.slice(begin, end), prompts: prompts?.slice(begin, end) };
    row = start + end;
  }
}

function sizeOf(cell: Cell | undefined): number {
  if (cell === undefined) return 0;
  return typeof cell === 'string' ? cell.length + 16 : 256;
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

function textOf(value: unknown, column: string): Cell {
  if (value === NOT_UTF8) return { what: `is not UTF-8 in '${column}'`, expected: 'UTF-8 text' };
  if (value === null) return { what: `has no text in '${column}'`, expected: 'a string', received: 'null' };
  return checkText(value, column, { fields: () => [], flag: '--text-field' });
}

async function slice(handle: FileHandle, from: number, to: number): Promise<ArrayBuffer> {
  const buffer = new ArrayBuffer(to - from);
  for (let filled = 0; filled < buffer.byteLength; ) {
    const { bytesRead } = await handle.read(new Uint8Array(buffer), filled, buffer.byteLength - filled, from + filled);
    if (bytesRead === 0) throw new Error('it ends too early');
    filled += bytesRead;
  }
  return buffer;
}

/** Rows of a row group. A row takes at least some bits, so that there cannot be absurdly many. */
function rowsOf(group: RowGroup, fileSize: number): number {
  const rows = Number(group.num_rows);
  if (rows >= 0 && rows <= Math.min(MAX_COLUMN, 1_000_000 + fileSize * 1000)) return rows;
  throw new Error(`it cannot have a row group of ${rows} rows`);
}

interface Chunk {
  bytes: ArrayBuffer;
  end: number;
  slice(from: number, to: number): ArrayBuffer;
}

async function readChunk(handle: FileHandle, group: RowGroup, column: string): Promise<Chunk> {
  const data = group.columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === column)?.meta_data;
  if (data === undefined) throw new Error(`a row group is without the column '${column}'`);
  const start = Number(data.dictionary_page_offset || data.data_page_offset);
  const size = Number(data.total_compressed_size);
  const fileSize = (await handle.stat()).size;
  if (!(start >= 0 && size >= 0 && start + size <= fileSize)) throw new Error('a column lies outside of the file');
  if (size > MAX_COLUMN) throw new Error(`a row group is too large: ${size} bytes of at most ${MAX_COLUMN}`);
  const bytes = await slice(handle, start, start + size);
  return {
    bytes,
    end: start + size,
    slice: (from, to) => {
      if (from < start || to > start + size) throw new Error('a page lies outside of its column');
      return bytes.slice(from - start, to - start);
    },
  };
}

/** Refuses pages that claim more than they can hold. */
function checkPages(bytes: ArrayBuffer, rows: number): void {
  const reader = { view: new DataView(bytes), offset: 0 };
  let unpacked = 0;
  let values = 0;
  while (values < rows && reader.offset < bytes.byteLength - 1) {
    const header = parquetHeader(reader);
    const { compressed_page_size: packed, uncompressed_page_size: size } = header;
    checkLevels(header);
    const page = header.data_page_header ?? header.data_page_header_v2;
    const count = page?.num_values ?? header.dictionary_page_header?.num_values ?? 0;
    if (!(packed >= 0 && packed <= bytes.byteLength - reader.offset && size >= 0)) {
      throw new Error('a page does not fit into its column');
    }
    unpacked += size;
    if (unpacked > MAX_COLUMN) throw new Error(`a row group unpacks to more than ${MAX_COLUMN} bytes`);
    if (page !== undefined) values += count;
    // Four bytes of length before each string of a dictionary.
    if (!(count >= 0 && values <= rows && (page !== undefined || count <= size / 4))) {
      throw new Error('a page claims more values than there can be');
    }
    reader.offset += packed;
  }
}

/**
 * Version 2 of a page states where its levels end. The decoder never comes to an end where that is missing, so neither
 * may it be, nor may the page have a type that disagrees with the header it carries.
 */
function checkLevels({ type, compressed_page_size: packed, ...headers }: PageHeader): void {
  const { data_page_header: v1, data_page_header_v2: v2, dictionary_page_header: dictionary } = headers;
  const own = { DATA_PAGE: v1, DATA_PAGE_V2: v2, DICTIONARY_PAGE: dictionary, INDEX_PAGE: undefined }[type];
  if (own === undefined || [v1, v2, dictionary].some((header) => header !== undefined && header !== own)) {
    throw new Error('a page is not of the type that its header states');
  }
  if (v2 === undefined) return;
  const { repetition_levels_byte_length: repetition, definition_levels_byte_length: definition, num_nulls: nulls } = v2;
  if (!(repetition >= 0 && definition >= 0 && repetition + definition <= packed)) {
    throw new Error("a page's levels do not fit into it");
  }
  if (!(nulls >= 0 && nulls <= v2.num_values)) throw new Error('a page claims more nulls than values');
}

/** The platform's own where it has them: they check what they unpack, and stop at its size. */
const COMPRESSORS: Compressors = {
  ...compressors,
  GZIP: (input, length) => gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
};

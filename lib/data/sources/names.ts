import { basename } from 'node:path';
import { KotodamaError } from '../../errors.js';
import { checkFile } from './file-bytes.js';
import { filesMatching, isPattern } from './glob.js';
import { isUrl, publicName } from './public-name.js';

/** What a source holds: lines of text, JSON objects in lines, or a Parquet table. */
export type Format = 'text' | 'jsonl' | 'parquet';

export type Compression = 'gzip' | 'zstd';

/** One place that texts come from. */
export interface Place {
  kind: 'file' | 'stdin' | 'url';
  /** Path or URL as it was given. */
  path: string;
  /** As messages show it. */
  name: string;
  /** As saved states know it: without folders, which may change. */
  mark: string;
  format: Format;
  /** What the name promises. */
  compression: Compression | undefined;
}

/**
 * The places that some names stand for, patterns expanded. A name tells its format: `.jsonl`, `.ndjson` and `.json` are
 * JSON lines, `.parquet` a table, each but the last also with `.gz` or `.zst`. Others, and `-` for the standard input,
 * are lines of text, or JSON lines when a text field is asked for.
 *
 * @param textField whether one was named
 * @throws KotodamaError `ERR_IO` when a file is missing or a pattern matches nothing, `ERR_DATA` when a file is empty,
 *   `ERR_OPTIONS` for names that cannot be read in order
 */
export function placesOf(names: readonly string[], textField: boolean): Place[] {
  const places = names.flatMap((name): Place[] => {
    const fallback = textField ? 'jsonl' : 'text';
    if (name === '-') {
      const place = { path: name, name: 'standard input', mark: name, compression: undefined };
      return [{ kind: 'stdin', format: fallback, ...place }];
    }
    if (isUrl(name)) return [urlPlace(name, fallback)];
    const paths = isPattern(name) ? filesMatching(name) : [name];
    if (paths.length === 0) throw noMatch(name);
    return paths.map((path) => {
      checkFile(path);
      return { kind: 'file', path, name: path, mark: basename(path), ...contentOf(path, fallback) };
    });
  });
  if (places.filter(({ kind }) => kind === 'stdin').length > 1) {
    throw new KotodamaError('ERR_OPTIONS', 'The standard input (-) can be read only once', { expected: 'one -' });
  }
  return places;
}

function noMatch(pattern: string): KotodamaError {
  return new KotodamaError('ERR_IO', `No file matches ${pattern}`, {
    hint: 'check the pattern and the folder it is looked for in',
  });
}

function urlPlace(url: string, fallback: Format): Place {
  if (!URL.canParse(url)) {
    throw new KotodamaError('ERR_OPTIONS', 'This is no URL', {
      expected: 'http(s)://host/path',
      received: publicName(url),
      hint: 'in a login # is written %23, / %2F, and ? %3F',
    });
  }
  const { pathname } = new URL(url);
  const content = contentOf(pathname, fallback);
  if (content.format === 'parquet') {
    throw new KotodamaError('ERR_OPTIONS', `${publicName(url)} cannot be streamed`, {
      expected: 'text or JSON lines: a Parquet file is read from its end',
      hint: 'download it first and give the file',
    });
  }
  return { kind: 'url', path: url, name: publicName(url), mark: basename(pathname), ...content };
}

function contentOf(path: string, fallback: Format): { format: Format; compression: Compression | undefined } {
  const lower = path.toLowerCase();
  const compression = lower.endsWith('.gz') ? 'gzip' : lower.endsWith('.zst') ? 'zstd' : undefined;
  const plain = compression === undefined ? lower : lower.slice(0, lower.lastIndexOf('.'));
  if (/\.(jsonl|ndjson|json)$/.test(plain)) return { format: 'jsonl', compression };
  if (plain.endsWith('.txt')) return { format: 'text', compression };
  if (!plain.endsWith('.parquet')) return { format: fallback, compression };
  if (compression === undefined) return { format: 'parquet', compression };
  throw new KotodamaError('ERR_OPTIONS', `${path} cannot be streamed: a Parquet file is read from its end`, {
    hint: 'unpack it first; Parquet files are compressed inside',
  });
}

import { KotodamaError } from '../../errors.js';
import { markFiles } from '../content-mark.js';
import type { BlockOrigin, Json } from '../types.js';
import type { OnBadRecord } from './bad-records.js';
import { changed } from './changed.js';
import type { Encoding } from './encoding.js';
import { LineInput } from './line-input.js';
import { type Place, placesOf } from './names.js';
import { ParquetInput } from './parquet-input.js';
import { inChunks, type TextChunk, type TextPosition, type TextSource } from './text-source.js';

/** How files are read. */
export interface FileOptions {
  /** Field or column that holds the text, where there are fields. Default `text`. */
  textField?: string | undefined;
  /** Field or column that holds what comes before each text. Default none. */
  promptField?: string | undefined;
  /** What files are in, but Parquet ones. Default `utf-8`. */
  encoding?: Encoding | undefined;
  /** Whether the end of a line of text is part of it, as `\n`. Default false. */
  keepLinebreaks?: boolean | undefined;
  /** Hears of bad rows of Parquet files, which are then left out. Bad lines are for whoever reads the chunks. */
  onBad?: OnBadRecord;
}

/**
 * The texts of files, patterns, URLs and the standard input, one after the other (see `placesOf`). All is streamed: memory
 * is that of the longest line, or a row group of a Parquet file.
 */
export class FileSource implements TextSource {
  readonly kind = 'files';
  private readonly places: readonly Place[];
  private readonly inputs: readonly (LineInput | ParquetInput)[];

  /** @throws KotodamaError `ERR_IO`, `ERR_DATA` or `ERR_OPTIONS` for names that cannot be read, as `placesOf` says */
  constructor(names: readonly string[], options: FileOptions = {}) {
    const { textField, promptField, encoding, keepLinebreaks, onBad } = options;
    this.places = placesOf(names, (textField ?? promptField) !== undefined);
    if (promptField !== undefined) refuseLines(this.places);
    const field = textField ?? 'text';
    const format = { field, promptField, encoding, keepLinebreaks };
    this.inputs = this.places.map((place) =>
      place.format === 'parquet'
        ? new ParquetInput(place.path, { text: field, prompt: promptField }, onBad)
        : new LineInput(place, format),
    );
  }

  async *read(from: TextPosition, closed?: AbortSignal): AsyncGenerator<TextChunk, void> {
    if (from.file >= this.inputs.length) throw changed(`There is no file number ${from.file + 1}`);
    for (const [file, input] of this.inputs.entries()) {
      if (file < from.file) continue;
      const offset = file === from.file ? from.offset : 0;
      if (input instanceof ParquetInput) yield* inChunks(file, input.read(offset), (row) => input.nameOf(row));
      else for await (const lines of input.read(offset, closed)) yield { ...lines, file };
    }
  }

  mark(file: number): string {
    const { length } = this.places;
    const place = this.places[file];
    return place === undefined ? `file ${file + 1} of ${length}` : `${place.mark} (${file + 1} of ${length})`;
  }

  async locate([file, offset, lastFile, lastOffset]: BlockOrigin): Promise<string> {
    const first = await this.find(file, offset);
    const last = await this.find(lastFile, lastOffset);
    if (file !== lastFile)
      return `${first.name} ${first.unit} ${first.number} to ${last.name} ${last.unit} ${last.number}`;
    if (offset === lastOffset) return `${first.name} ${first.unit} ${first.number}`;
    return `${first.name} ${first.unit}s ${first.number} to ${last.number}`;
  }

  async identity(): Promise<{ [key: string]: Json }> {
    const files = this.places.filter(({ kind }) => kind === 'file');
    const others = this.places.filter(({ kind }) => kind !== 'file');
    return {
      source: this.kind,
      ...(files.length > 0 && (await markFiles(files.map(({ path }) => path)))),
      ...(others.length > 0 && { unmarked: others.map(({ mark }) => mark) }),
    };
  }

  private async find(file: number, offset: number): Promise<{ name: string; unit: string; number: number }> {
    const [place, input] = [this.places[file], this.inputs[file]];
    if (place === undefined || input === undefined) throw changed(`There is no file number ${file + 1}`);
    return { name: place.name, ...(await input.locate(offset)) };
  }
}

/** Lines of text have no fields. */
function refuseLines(places: readonly Place[]): void {
  const lines = places.find(({ format }) => format === 'text');
  if (lines === undefined) return;
  throw new KotodamaError('ERR_OPTIONS', `${lines.name} holds lines of text, and no prompts`, {
    expected: 'JSON lines or Parquet where a prompt field is named',
    hint: 'a record is a line such as {"prompt": "...", "text": "..."} in a file FILE.jsonl',
  });
}

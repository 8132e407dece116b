import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { SUMS_FILE } from '../checksums.js';
import { KotodamaError } from '../errors.js';
import { ioError, makeFolder } from '../files.js';
import { FLOAT_TYPES, type StoredType } from '../model/encoding.js';
import { GGUF_TYPES, writeGpt2Gguf } from '../model/gguf/gpt2.js';
import { LLMC_TYPES, writeLlmc } from '../model/llmc.js';
import { isFile } from '../model/model-file.js';
import { modelPath, openWeights, readConfig } from '../model/pretrained.js';
import { writePretrained } from '../model/save.js';
import { readWeightOptions } from '../model/write-weights.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { holdsTokenizer } from '../tokenizer/tokenizer-files.js';
import { STATE_FILE } from '../train/checkpoint.js';
import { holdsRun } from '../train/run-folder.js';
import { alternatives, OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { showDownloads } from './download.js';
import { checkSaved, loadTokenizer } from './load.js';
import { EXPORT_OPTIONS, flagOf, parseFlags, readOptions, requireOptions } from './options.js';
import { checkReplaces } from './overwrite.js';

type Format = (typeof EXPORT_OPTIONS.format.choices)[number];

interface ExportArguments {
  model: string;
  format: Format;
  out: string;
  dtype?: StoredType;
  maxShardSize?: string;
  tokenizer?: string;
}

/** What the numbers may be stored as. */
const TYPES: Readonly<Record<Format, readonly StoredType[]>> = {
  gguf: GGUF_TYPES,
  'llm.c': LLMC_TYPES,
  safetensors: FLOAT_TYPES,
};

export const exportCommand: Command = {
  summary: 'writes a model for llama.cpp (GGUF), llm.c or Transformers',
  usage: 'export --model DIR --format gguf|llm.c|safetensors --out PATH [options]',
  options: EXPORT_OPTIONS,
  examples: [
    'kotodama export --model runs/a --format gguf --dtype q8_0 --out a.gguf',
    'kotodama export --model runs/a --format llm.c --out a.bin',
    'kotodama export --model gpt2_124M.bin --tokenizer openai-community/gpt2 --format safetensors --out gpt2',
  ],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, EXPORT_OPTIONS), flagOf);
    const options = readOptions(reader, EXPORT_OPTIONS, 'export') as unknown as ExportArguments;
    requireOptions(reader, EXPORT_OPTIONS, ['model', 'format', 'out']);
    const maxShardBytes = readSize(reader, options);
    const types = TYPES[options.format];
    if (types !== undefined && options.dtype !== undefined && !types.includes(options.dtype)) {
      reader.problem('dtype', `${alternatives(types)} with --format ${options.format}`, options.dtype);
    }
    if (options.format === 'llm.c' && options.tokenizer !== undefined) {
      reader.problem('tokenizer', 'nothing with --format llm.c, which has no place for one', options.tokenizer);
    }
    reader.finish('The options of kotodama export are not valid');

    // No engine is needed: the numbers go from file to file, one tensor at a time.
    checkSaved(options.model);
    if (options.format !== 'safetensors') await checkReplaces(options.out, options.format);
    const path = await modelPath(options.model, showDownloads());
    const config = await readConfig(path);
    const tokenizer = await tokenizerFor(options, path);
    await prepareTarget(options, path);
    // What the format cannot hold was refused above.
    const dtype = options.dtype === undefined ? {} : { dtype: options.dtype as never };
    const { tensors, close } = await openWeights(path, config);
    try {
      if (options.format === 'gguf') {
        await writeGpt2Gguf(options.out, config, tensors, { tokenizer: tokenizer as Tokenizer, ...dtype });
      } else if (options.format === 'llm.c') {
        await writeLlmc(options.out, config, tensors, dtype);
      } else {
        const parts = { config, weights: tensors, tokenizer };
        await writePretrained(options.out, parts, readWeightOptions({ maxShardBytes, ...dtype }));
      }
    } finally {
      await close();
    }
    process.stderr.write(`wrote ${options.out}\n`);
    return 0;
  },
};

/** `5GB` as bytes, in powers of 1000 as Transformers has them. */
function readSize(reader: OptionReader, { format, maxShardSize }: ExportArguments): number | undefined {
  if (maxShardSize === undefined) return undefined;
  if (format !== 'safetensors') reader.problem('maxShardSize', 'nothing without --format safetensors', maxShardSize);
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(KB|MB|GB)$/i.exec(maxShardSize) ?? [];
  const bytes = Math.floor(Number(number) * (UNITS[unit.toUpperCase()] ?? Number.NaN));
  if (!(bytes >= 1)) reader.problem('maxShardSize', 'a size such as 5GB or 500MB', maxShardSize);
  return bytes;
}

const UNITS: Readonly<Record<string, number>> = { KB: 1e3, MB: 1e6, GB: 1e9 };

/** The tokenizer to write beside the weights; llm.c's format has no place for one, and weights alone are a model too. */
async function tokenizerFor(options: ExportArguments, path: string): Promise<Tokenizer | undefined> {
  const { format, model, tokenizer } = options;
  if (format === 'llm.c') return undefined;
  const optional = format === 'safetensors' && tokenizer === undefined;
  // What was fetched from the Hub may have a tokenizer that was not fetched yet.
  if (optional && path === model && ((await isFile(path)) || !(await holdsTokenizer(path)))) return undefined;
  return loadTokenizer(options);
}

/** @throws KotodamaError `ERR_OPTIONS` when something would be lost at the place to write to */
async function prepareTarget({ format, out }: ExportArguments, path: string): Promise<void> {
  const refuse = (what: string) => {
    throw new KotodamaError('ERR_OPTIONS', `--out ${out} is ${what}`, { hint: 'choose another path' });
  };
  if ((await realPath(out)) === (await realPath(path))) refuse('the model itself');
  if (format === 'safetensors') {
    if (holdsRun(out)) refuse('the folder of a run, whose weights would be replaced');
    if ([STATE_FILE, SUMS_FILE].some((name) => existsSync(join(out, name)))) {
      refuse('a checkpoint, whose weights would be replaced');
    }
  }
  const folder = format === 'safetensors' ? out : dirname(out);
  await makeFolder(folder).catch((cause) => {
    throw ioError(cause, `${folder} could not be made`);
  });
}

/** Where a path leads through symbolic links; the path itself where nothing is yet. */
function realPath(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path));
}

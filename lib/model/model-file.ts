import { existsSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import { malformed, refusePointer } from './file-parts.js';
import { LLMC_MAGIC } from './llmc.js';

/** Whether a path names a file, as opposed to a folder or nothing. */
export async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

/**
 * Lets pass a model in one file that can be read, which is llm.c's format.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` that says what the file is instead, and what to do
 */
export async function checkModelFile(path: string): Promise<void> {
  const head = await headOf(path);
  if (head.length >= 4 && head.readInt32LE() === LLMC_MAGIC) return;
  if (isPickle(head)) throw pickle(path, folderOfPickle(path));
  if (path.endsWith('.safetensors')) {
    const expected = 'the folder with this file and its config.json';
    throw new KotodamaError('ERR_MODEL_FILE', `${path} holds weights alone`, { expected, hint: 'give its folder' });
  }
  refusePointer(path, head);
  const found = OTHERS.find(([magic]) => head.subarray(0, magic.length).equals(magic));
  if (found === undefined) {
    throw malformed(path, 'this is no model', `a folder in Hugging Face's layout, or llm.c's .bin`, 'another file');
  }
  const [, what, hint] = found;
  throw new KotodamaError('ERR_MODEL_FILE', `${path} is ${what}`, { expected: 'a model to load', hint });
}

const int32 = (value: number) => Buffer.from(Int32Array.of(value).buffer);

/** Files that are taken for models, by their first bytes. */
const OTHERS: readonly (readonly [magic: Buffer, what: string, hint: string])[] = [
  [Buffer.from('GGUF'), 'a GGUF file', 'GGUF can be written, not read: give the folder that it was made from'],
  [int32(20240520), 'a token file', 'give it to --train; a model of llm.c begins with 20240326'],
  [int32(20240801), 'a token file', 'give it to --train; a model of llm.c begins with 20240326'],
  [int32(20240327), "llm.c's record of a training step", 'give the model that was saved beside it'],
  [int32(20240527), "llm.c's state of a training run", 'give the model_*.bin that was saved beside it'],
  [int32(20240328), "llm.c's tokenizer", 'give the model'],
];

/** PyTorch's files: a zip archive that holds a pickle, or in old ones the pickle itself (protocol 2 and later). */
function isPickle(head: Buffer): boolean {
  const [first, second = 0xff] = head;
  return head.subarray(0, 4).equals(Buffer.from('PK\x03\x04')) || (first === 0x80 && second >= 2 && second <= 5);
}

/** The folder that Transformers loads with a pickle in it; undefined for a pickle of another program. */
function folderOfPickle(path: string): string | undefined {
  const folder = dirname(path);
  return basename(path).startsWith('pytorch_model') && existsSync(join(folder, 'config.json')) ? folder : undefined;
}

/** A refusal of Python's pickle, with what to run instead. */
export function pickle(path: string, folder: string | undefined): KotodamaError {
  return new KotodamaError('ERR_MODEL_FILE', `${path} is a Python pickle, which can run any code when it is read`, {
    expected: 'model.safetensors',
    hint:
      folder === undefined
        ? 'in Python, put its tensors into a GPT2LMHeadModel and call save_pretrained(folder); docs/coming-from.md has the ' +
          "program for nanoGPT's ckpt.pt"
        : `in Python, \`GPT2LMHeadModel.from_pretrained('${folder}').save_pretrained('${folder}')\` writes that file`,
  });
}

async function headOf(path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  }
}

/** A tokenization worker: chunks of text come in, ids go out. See worker-pool.ts for the messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { KotodamaError, messageOf } from '../errors.js';
import { unigramEncoder } from '../tokenizer/sentencepiece/encoder.js';
import type { TokenizerSource } from '../tokenizer/tokenizer.js';
import { encodersOf, type TextEncoders } from '../tokenizer/utf8-model.js';
import { ChunkEncoder } from './encoder.js';
import type { WorkerAnswer, WorkerRequest, WorkerSource } from './worker-pool.js';

const encoder = makeEncoders(workerData as WorkerSource).then((encoders) => new ChunkEncoder(encoders));
// Whoever asks for ids sees the failure; until then it must not end the thread.
encoder.catch(() => {});

parentPort?.on('message', async ({ id, chunk, rules }: WorkerRequest) => {
  try {
    const encoded = (await encoder).encode(chunk, rules);
    const arrays = [encoded.ids, encoded.lengths, encoded.offsets].filter((array) => array !== undefined);
    answer(
      { id, encoded },
      arrays.map(({ buffer }) => buffer as ArrayBuffer),
    );
  } catch (error) {
    const code = error instanceof KotodamaError ? error.code : 'ERR_TOKENIZER';
    answer({ id, code, message: messageOf(error) });
  }
});

function answer(message: WorkerAnswer, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

async function makeEncoders(source: WorkerSource): Promise<TextEncoders> {
  return 'parts' in source ? unigramEncoder(source.parts) : load(source.files);
}

async function load({ dir, fingerprint }: TokenizerSource): Promise<TextEncoders> {
  // Only here, since it takes longer than all the rest of a worker.
  const { Tokenizer } = await import('../tokenizer/tokenizer.js');
  const loaded = await Tokenizer.fromPretrained(dir);
  if (loaded.fingerprint === fingerprint) return encodersOf(loaded);
  throw new KotodamaError('ERR_TOKENIZER', `The tokenizer's files in ${dir} have changed since it was loaded`, {
    hint: 'load it again',
  });
}

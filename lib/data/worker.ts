/** A tokenization worker: texts come in, ids go out. See worker-pool.ts for the messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { KotodamaError, messageOf } from '../errors.js';
import { Tokenizer, type TokenizerSource } from '../tokenizer/index.js';
import { encodeTexts } from './encoder.js';
import type { WorkerAnswer, WorkerRequest } from './worker-pool.js';

const tokenizer = load(workerData as TokenizerSource);
// Whoever asks for ids sees the failure; until then it must not end the thread.
tokenizer.catch(() => {});

parentPort?.on('message', async ({ id, texts }: WorkerRequest) => {
  try {
    const { ids, lengths } = encodeTexts(await tokenizer, texts);
    answer({ id, ids, lengths }, [ids.buffer as ArrayBuffer, lengths.buffer as ArrayBuffer]);
  } catch (error) {
    const code = error instanceof KotodamaError ? error.code : 'ERR_TOKENIZER';
    answer({ id, code, message: messageOf(error) });
  }
});

function answer(message: WorkerAnswer, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

async function load({ dir, fingerprint }: TokenizerSource): Promise<Tokenizer> {
  const loaded = await Tokenizer.fromPretrained(dir);
  if (loaded.fingerprint === fingerprint) return loaded;
  throw new KotodamaError('ERR_TOKENIZER', `The tokenizer's files in ${dir} have changed since it was loaded`, {
    hint: 'load it again',
  });
}

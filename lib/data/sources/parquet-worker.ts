/** Reads the texts of a Parquet file: a question for rows comes in, texts go out. See parquet-input.ts for the messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { KotodamaError, messageOf } from '../../errors.js';
import type { ParquetAnswer, ParquetRequest } from './parquet-input.js';
import { ParquetTexts } from './parquet-texts.js';

const { path, columns, from } = workerData as ParquetRequest;
const texts = new ParquetTexts(path, columns);
const batches = texts.read(from);

parentPort?.on('message', async () => {
  const answer = await next().catch((error: unknown): ParquetAnswer => {
    const other = error instanceof Error && 'syscall' in error ? 'ERR_IO' : 'ERR_DATA';
    return { failure: messageOf(error), code: error instanceof KotodamaError ? error.code : other };
  });
  parentPort?.postMessage(answer);
});

async function next(): Promise<ParquetAnswer> {
  const { done, value } = await batches.next();
  return done === true ? { done } : value;
}

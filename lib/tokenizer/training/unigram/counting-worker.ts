/** A second thread that counts pieces: see piece-counter.ts for the messages. */
import { parentPort, workerData } from 'node:worker_threads';
import { answerCounting, type CountingRequest, type CountingWork } from './piece-counter.js';

parentPort?.on('message', (request: CountingRequest) => {
  const counts = answerCounting(workerData as CountingWork, request);
  parentPort?.postMessage(counts, [counts.buffer]);
});

/** Learns the pieces of a unigram model: see train-unigram.ts for the messages. */
import { parentPort, workerData } from 'node:worker_threads';
import type { LearnAnswer, LearnRequest } from './train-unigram.js';
import { learnUnigram } from './unigram-learner.js';

const { words, characters, size } = workerData as LearnRequest;
const answer = (message: LearnAnswer) => parentPort?.postMessage(message);
answer({ pieces: await learnUnigram(words, characters, { size, onProgress: (left) => answer({ left }) }) });

import { Worker } from 'node:worker_threads';
import { KotodamaError, messageOf } from '../../../errors.js';
import type { JsonObject } from '../../check-tokenizer-json.js';
import { PieceType } from '../../sentencepiece/model-proto.js';
import { type Piece, writeUnigramModel } from '../../sentencepiece/model-writer.js';
import { Normalizer } from '../../sentencepiece/normalizer.js';
import { type TrainTokenizerOptions, UNIGRAM_SPECIAL_TOKENS, type UnigramSettings } from '../options.js';
import { readTexts } from '../read-texts.js';
import { TrainedTokenizer } from '../trained-tokenizer.js';
import { Turns } from '../turns.js';
import { compileCharsmap } from './charsmap-writer.js';
import { type CountedCharacter, frequentCharacters, type LaidWords, layWords } from './laid-words.js';
import { nmtNfkcRules } from './nfkc-rules.js';
import type { ScoredPiece } from './unigram-learner.js';
import { WordSplitter } from './word-splitter.js';

/** What the thread that learns is given. */
export interface LearnRequest {
  words: LaidWords;
  characters: CountedCharacter[];
  size: number;
}

/** What it says: how many pieces are left, time and again; then the pieces. */
export type LearnAnswer = { left: number } | { pieces: ScoredPiece[] };

/** Trains a SentencePiece unigram model. */
export async function trainUnigram(
  options: TrainTokenizerOptions,
  settings: UnigramSettings,
): Promise<TrainedTokenizer> {
  const turns = new Turns(options);
  const charsmap = settings.normalizer === 'identity' ? new Uint8Array(0) : compileCharsmap(nmtNfkcRules());
  const { addDummyPrefix } = settings;
  const spec = { charsmap, addDummyPrefix, removeExtraWhitespaces: true, escapeWhitespaces: true };
  const splitter = new WordSplitter(new Normalizer(spec, undefined, false));
  await readTexts(options, splitter, turns);
  const characters = frequentCharacters(splitter.words, settings.characterCoverage);
  const reserved = reservedPieces(settings);
  const size = settings.vocabSize - reserved.length;
  if (characters.length > size) throw tooSmall(settings, reserved.length, characters.length);
  const words = layWords(splitter.words, characters);
  const learned = await learn({ words, characters, size }, settings.vocabSize, turns);
  const pieces = [...reserved, ...learned.map(({ text, score }) => ({ text, score, type: PieceType.normal }))];
  const [pad, unk, bos, eos] = UNIGRAM_SPECIAL_TOKENS;
  const model = writeUnigramModel({
    ...{ pieces, pad, unk, bos, eos },
    byteFallback: settings.byteFallback,
    characterCoverage: settings.characterCoverage,
    normalizer: { name: settings.normalizer, charsmap, addDummyPrefix },
  });
  return new TrainedTokenizer({ ...configFiles(), 'spiece.model': model }, pieces.length);
}

/** Special pieces, and those of bytes. */
function reservedPieces({ specialTokens, byteFallback }: UnigramSettings): Piece[] {
  const special = [...UNIGRAM_SPECIAL_TOKENS, ...specialTokens].map((text) => {
    return { text, score: 0, type: text === '<unk>' ? PieceType.unknown : PieceType.control };
  });
  const bytes = Array.from({ length: byteFallback ? 256 : 0 }, (_, byte) => {
    const name = byte.toString(16).toUpperCase().padStart(2, '0');
    return { text: `<0x${name}>`, score: 0, type: PieceType.byte };
  });
  return [...special, ...bytes];
}

/** Learns in a thread, which an abort ends. */
async function learn(request: LearnRequest, vocabSize: number, turns: Turns): Promise<ScoredPiece[]> {
  const { units, starts, counts } = request.words;
  const transferList = [units, starts, counts].map(({ buffer }) => buffer as ArrayBuffer);
  const url = new URL('./unigram-worker.js', import.meta.url);
  const worker = new Worker(url, { workerData: request, transferList, execArgv: [] });
  const learned = new Promise<ScoredPiece[]>((resolve, reject) => {
    worker.on('message', (answer: LearnAnswer) => {
      if ('pieces' in answer) return resolve(answer.pieces);
      try {
        turns.report({ phase: 'prune', pieces: answer.left, vocabSize });
      } catch (thrown) {
        // Nobody could catch what is thrown in here: it would end the process.
        reject(thrown);
      }
    });
    worker.on('error', (cause) => reject(failed(messageOf(cause), cause)));
    worker.on('exit', (code) => reject(failed(`its thread ended with code ${code}`)));
  });
  try {
    return await turns.wait(learned);
  } finally {
    learned.catch(() => {});
    await worker.terminate();
  }
}

function failed(how: string, cause?: unknown): KotodamaError {
  return new KotodamaError('ERR_MEMORY', `The pieces could not be learned (${how})`, {
    hint: 'train on a part of the text, for example every tenth line: a tokenizer hardly gains from more',
    cause,
  });
}

/** Names the special pieces for Python's Transformers, whose BertGenerationTokenizer takes a model as it is. */
function configFiles(): { [name: string]: JsonObject } {
  const [pad, unk, bos, eos] = UNIGRAM_SPECIAL_TOKENS;
  // Without a separator of ours it would add one to the vocabulary.
  const names = { bos_token: bos, eos_token: eos, unk_token: unk, pad_token: pad, sep_token: eos };
  return {
    'tokenizer_config.json': { tokenizer_class: 'BertGenerationTokenizer', ...names },
    'special_tokens_map.json': names,
  };
}

function tooSmall({ vocabSize, characterCoverage }: UnigramSettings, reserved: number, count: number): KotodamaError {
  return new KotodamaError('ERR_OPTIONS', 'The vocabulary is too small for the characters of the text', {
    expected: `at least ${reserved + count} ids: ${reserved} special pieces and ${count} characters`,
    received: String(vocabSize),
    hint:
      'choose a larger --vocab-size (API: vocabSize), or a --character-coverage (API: characterCoverage) ' +
      `below ${characterCoverage}: rare characters are then unknown`,
  });
}

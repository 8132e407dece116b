import { join } from 'node:path';
import { ioError, makeFolder, writeAtomically, writeJsonFile } from '../../files.js';
import type { JsonObject } from '../check-tokenizer-json.js';
import { Tokenizer } from '../tokenizer.js';

/** A tokenizer fresh from training. */
export class TrainedTokenizer {
  /**
   * Its files by name, the one that makes the folder a tokenizer last: tokenizer_config.json and tokenizer.json, or
   * tokenizer_config.json, special_tokens_map.json and spiece.model.
   */
  readonly files: { readonly [name: string]: JsonObject | Uint8Array };
  /** Ids in the vocabulary: fewer than were asked for if the text has too little that repeats. */
  readonly vocabSize: number;

  constructor(files: { readonly [name: string]: JsonObject | Uint8Array }, vocabSize: number) {
    this.files = files;
    this.vocabSize = vocabSize;
  }

  /** The tokenizer, to use at once. */
  tokenizer(): Tokenizer {
    const { 'tokenizer.json': json, 'spiece.model': model, 'tokenizer_config.json': config } = this.files;
    if (model instanceof Uint8Array) return Tokenizer.fromSentencePiece(model, config as JsonObject);
    return Tokenizer.fromJson(json as JsonObject, config as JsonObject);
  }

  /**
   * Writes the files, which `Tokenizer.fromPretrained` and Hugging Face's libraries load. The folder is made if it is
   * missing; files of these names are replaced.
   *
   * @throws KotodamaError `ERR_IO`
   */
  async save(dir: string): Promise<void> {
    await makeFolder(dir).catch((cause) => {
      throw ioError(cause, `${dir} could not be made`);
    });
    for (const [name, content] of Object.entries(this.files)) {
      const path = join(dir, name);
      if (content instanceof Uint8Array) await writeAtomically(path, (file) => file.writeFile(content));
      else await writeJsonFile(path, content);
    }
  }
}

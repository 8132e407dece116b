/** GPT-2's pattern: contractions, words, numbers, other characters, and white space; a space goes with what follows. */
const PRE_TOKEN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** Pre-tokens remembered; when there are more, all are forgotten. About 30 MB at most in ordinary text. */
const REMEMBERED = 100_000;

/** Longer pre-tokens hardly ever come again. */
const LONGEST_REMEMBERED = 64;

/**
 * Encodes text the way a byte-level BPE tokenizer does, remembering what each pre-token (a word with its space, mostly)
 * became. The pieces are independent of each other, so the ids are the same as without the memory.
 */
export class PreTokenEncoder {
  private readonly remembered = new Map<string, readonly number[]>();
  private readonly added: ReadonlyMap<string, number>;
  /** Finds added tokens; the longest of those that begin at one place comes first. */
  private readonly addedPattern: RegExp | undefined;
  private readonly encodePreToken: (text: string) => readonly number[];

  /**
   * @param added texts that always become one id, wherever they stand
   * @param encodePreToken ids of a text that the pattern leaves whole
   */
  constructor(added: readonly (readonly [string, number])[], encodePreToken: (text: string) => readonly number[]) {
    const contents = added.map(([content]) => content).filter((content) => content.length > 0);
    contents.sort((a, b) => b.length - a.length);
    this.added = new Map(added);
    this.addedPattern = contents.length === 0 ? undefined : new RegExp(contents.map(escapeRegExp).join('|'), 'g');
    this.encodePreToken = encodePreToken;
  }

  encode(text: string): number[] {
    const ids: number[] = [];
    let start = 0;
    if (this.addedPattern !== undefined) {
      for (const { 0: content, index } of text.matchAll(this.addedPattern)) {
        this.encodeSection(text.slice(start, index), ids);
        ids.push(this.added.get(content) as number);
        start = index + content.length;
      }
    }
    this.encodeSection(start === 0 ? text : text.slice(start), ids);
    return ids;
  }

  private encodeSection(text: string, ids: number[]): void {
    for (const [preToken] of text.matchAll(PRE_TOKEN)) {
      for (const id of this.lookUp(preToken)) ids.push(id);
    }
  }

  private lookUp(preToken: string): readonly number[] {
    const known = this.remembered.get(preToken);
    if (known !== undefined) return known;
    const ids = this.encodePreToken(preToken);
    if (preToken.length <= LONGEST_REMEMBERED) {
      if (this.remembered.size >= REMEMBERED) this.remembered.clear();
      this.remembered.set(detached(preToken), ids);
    }
    return ids;
  }
}

/** A copy that does not keep the line alive which the text was cut from. */
function detached(text: string): string {
  return Buffer.from(text, 'utf16le').toString('utf16le');
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

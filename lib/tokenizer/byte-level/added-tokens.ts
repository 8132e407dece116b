interface Added {
  bytes: Uint8Array;
  id: number;
}

/** Texts that become one id wherever they stand, such as `<|endoftext|>`. */
export class AddedTokens {
  /** Id of what {@link match} found. */
  id = 0;
  /** By first byte, the longest first. */
  private readonly byFirst: (readonly Added[] | undefined)[] = new Array(256).fill(undefined);

  /** @param tokens texts, none empty, with their ids */
  constructor(tokens: readonly (readonly [text: string, id: number])[]) {
    const longestFirst = tokens.map(([text, id]) => ({ bytes: Buffer.from(text), id }));
    longestFirst.sort((a, b) => b.bytes.length - a.bytes.length);
    for (const token of longestFirst) {
      const first = token.bytes[0]!;
      this.byFirst[first] = [...(this.byFirst[first] ?? []), token];
    }
  }

  /** End of the longest one that begins at `start`, whose id is then in {@link id}; `start` if there is none. */
  match(text: Uint8Array, start: number, end: number): number {
    const candidates = this.byFirst[text[start]!];
    if (candidates === undefined) return start;
    const found = candidates.find(({ bytes }) => startsWith(text, start, end, bytes));
    if (found === undefined) return start;
    this.id = found.id;
    return start + found.bytes.length;
  }
}

function startsWith(text: Uint8Array, start: number, end: number, bytes: Uint8Array): boolean {
  return bytes.length <= end - start && bytes.every((byte, index) => text[start + index] === byte);
}

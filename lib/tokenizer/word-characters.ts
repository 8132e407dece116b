/** What the regular expressions of Rust, in which Python's tokenizers are written, have as `\w` (Unicode's UTS #18, annex C). */
const WORD = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';

export const BEGINS_WITH_WORD: RegExp = new RegExp(`^${WORD}`, 'u');
export const ENDS_WITH_WORD: RegExp = new RegExp(`${WORD}$`, 'u');

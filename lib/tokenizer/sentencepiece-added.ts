import { KotodamaError } from '../errors.js';
import { asObject, type JsonObject } from './check-tokenizer-json.js';
import { ADDED_BESIDE_HINT, type SentencePieceTokenizer } from './sentencepiece/index.js';

/**
 * Refuses tokens that Python adds beside a SentencePiece model, with ids of their own: texts would get other ids without them.
 *
 * @param config content of tokenizer_config.json
 * @param added content of added_tokens.json
 * @throws KotodamaError `ERR_TOKENIZER`
 */
export function refuseAddedTokens(tokenizer: SentencePieceTokenizer, config: JsonObject, added: JsonObject = {}): void {
  const { added_tokens_decoder: decoder, additional_special_tokens: special, extra_special_tokens: extra } = config;
  const byId = Object.entries(asObject(decoder) ?? {}).map(([id, token]) => [contentOf(token), Number(id)] as const);
  const lists = [special, extra].flatMap((list) => (Array.isArray(list) ? list : []));
  const all = [...Object.entries(added), ...byId, ...lists.map((token) => [contentOf(token), undefined] as const)];
  for (const [content, id] of all) {
    if (content === undefined) continue;
    const found = tokenizer.pieceToId(content);
    if (found !== undefined && (id === undefined || id === found)) continue;
    const place =
      found === undefined ? 'is not in the SentencePiece model' : `is piece ${found} of the SentencePiece model`;
    throw new KotodamaError('ERR_TOKENIZER', `the added token ${JSON.stringify(content)} ${place}`, {
      ...(id !== undefined && found !== undefined && { expected: `the id ${found}`, received: String(id) }),
      hint: ADDED_BESIDE_HINT,
    });
  }
}

function contentOf(token: unknown): string | undefined {
  const content = asObject(token)?.content ?? token;
  return typeof content === 'string' ? content : undefined;
}

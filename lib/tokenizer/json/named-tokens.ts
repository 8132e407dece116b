import { type AddedToken, asObject, type CheckedTokenizerJson, type JsonObject } from '../check-tokenizer-json.js';

/** Keys of tokenizer_config.json under which special tokens are named, in Transformers' order. */
const NAMES = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'].map((name) => `${name}_token`);
const LISTS = ['additional_special_tokens', 'extra_special_tokens'];

/**
 * The added tokens of a tokenizer.json and those that Transformers adds when it loads the folder: what tokenizer_config.json
 * names and the list lacks. One that the vocabulary has gets the id that it has there; others come after all.
 */
export function withNamedTokens(
  { model, added_tokens: added = [] }: CheckedTokenizerJson,
  config: JsonObject,
): AddedToken[] {
  const vocabulary = idsOf(model.vocab);
  const tokens = added.map((token) => ({ ...token, id: vocabulary.get(token.content) ?? token.id }));
  let next = tokens.reduce((largest, { id }) => Math.max(largest, id + 1), vocabulary.size);
  for (const { content, ...flags } of [...decoderTokens(config), ...specialTokens(config)]) {
    if (content === '' || tokens.some((token) => token.content === content)) continue;
    const id = vocabulary.get(content) ?? next++;
    tokens.push({ ...flags, content, id });
  }
  return tokens;
}

type NewToken = Omit<AddedToken, 'id'>;

function decoderTokens({ added_tokens_decoder: decoder }: JsonObject): NewToken[] {
  const entries = Object.entries(asObject(decoder) ?? {}).sort(([a], [b]) => Number(a) - Number(b));
  return entries.flatMap(([, value]) => tokenOf(value, false) ?? []);
}

function specialTokens(config: JsonObject): NewToken[] {
  const listed = LISTS.flatMap((key) => (Array.isArray(config[key]) ? (config[key] as unknown[]) : []));
  return [...NAMES.map((name) => config[name]), ...listed].flatMap((value) => tokenOf(value, true) ?? []);
}

function tokenOf(value: unknown, special: boolean): NewToken | undefined {
  if (typeof value === 'string') return { content: value, special };
  const { content, ...rest } = asObject(value) ?? {};
  if (typeof content !== 'string') return undefined;
  const flags = ['single_word', 'lstrip', 'rstrip', 'normalized', 'special'].filter(
    (key) => typeof rest[key] === 'boolean',
  );
  return { content, special, ...Object.fromEntries(flags.map((key) => [key, rest[key]])), ...(special && { special }) };
}

function idsOf(vocab: unknown): Map<string, number> {
  if (!Array.isArray(vocab)) return new Map(Object.entries(vocab as { [token: string]: number }));
  return new Map(vocab.map(([piece]: [string], id) => [piece, id]));
}

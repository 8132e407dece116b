import { KotodamaError } from '../errors.js';
import { alternativesIn, matcherOf } from '../pattern.js';
import { nearest } from '../validate.js';

/**
 * The tensors that some patterns match, by name. A pattern names a tensor or a module, with all tensors in it;
 * `transformer.` may be left out. `*` stands for anything, `?` for one character, `[0-5]` for one of a range, `{wte,wpe}`
 * for alternatives: `wte`, `h.[0-3]`, `h.*.attn`, `*.bias`.
 *
 * @throws KotodamaError `ERR_OPTIONS` when a pattern matches nothing, or when together they match every tensor
 */
export function tensorsMatching(patterns: readonly string[], names: readonly string[]): string[] {
  const found = new Set<string>();
  for (const pattern of patterns) {
    const matches = names.filter((name) => alternativesIn(pattern).some((single) => isNamed(name, single)));
    if (matches.length === 0) {
      throw new KotodamaError('ERR_OPTIONS', `No tensor of the model matches '${pattern}'`, {
        expected: "a tensor's name, a module's such as h.0.attn, or a pattern such as *.bias",
        hint: 'wte and wpe are the embeddings, h.0 the first block, ln_f the last LayerNorm',
      });
    }
    for (const name of matches) found.add(name);
  }
  if (found.size === names.length) throw new KotodamaError('ERR_OPTIONS', 'freeze: nothing is left to train');
  return names.filter((name) => found.has(name));
}

/** What someone who asks for the tensor `name`, which is not among `names`, probably wants. */
export function hintFor(name: string, names: readonly string[]): string {
  if (name.startsWith('lm_head')) return 'the head has no weights of its own: they are those of transformer.wte.weight';
  const parts = names.filter((candidate) => isNamed(candidate, name));
  if (parts.length > 1) return `this module has several, such as '${parts[0]}'`;
  const close = parts[0] ?? nearest(name, names);
  return close === undefined ? 'model.tensors lists them' : `did you mean '${close}'?`;
}

/** Whether a pattern is a tensor's name or the beginning of it up to a dot. */
function isNamed(name: string, pattern: string): boolean {
  const matcher = matcherOf(pattern);
  const parts = name.split('.');
  return [0, 1].some((first) =>
    parts.some((_, last) => {
      const module = parts.slice(first, last + 1).join('.');
      return matcher === undefined ? module === pattern : matcher.test(module);
    }),
  );
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kotodama, tinyTraining, workplace } from './program.js';

const TEXT = 'Everyone has 権利 <b>';

t.test('a page, and the same as numbers', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 4 }), { cwd });
  const words = ['explain', '--model', 'runs/a', '--text', TEXT, '--device', 'cpu'];
  const [page, json] = await Promise.all([
    kotodama([...words, '--out', 'page.html'], { cwd }),
    kotodama([...words, '--json', '--layer', '0', '--head', '1', '--top-k', '2'], { cwd }),
  ]);
  t.equal(page.code, 0, page.stderr);
  t.match(page.stdout, /^\d+ tokens, mean loss \d\.\d{4} nats, perplexity [\d.]+\nwritten to page.html: /);
  const html = readFileSync(join(cwd, 'page.html'), 'utf8');
  t.match(html, '<title>runs/a explained</title>');
  t.notMatch(html, '<b>');
  const text = readFileSync(join(cwd, 'train.txt'), 'utf8');
  const [again, other] = await Promise.all([
    kotodama([...words, '--out', 'page.html'], { cwd }),
    kotodama([...words, '--out', 'train.txt'], { cwd }),
  ]);
  t.equal(again.code, 0, again.stderr);
  t.match(other.stderr, /^error ERR_OPTIONS: --out train.txt would be replaced/);
  t.equal(readFileSync(join(cwd, 'train.txt'), 'utf8'), text);

  t.equal(json.code, 0, json.stderr);
  const result = JSON.parse(json.stdout);
  t.match(result, { model: 'runs/a', text: TEXT, attention: [{ layer: 0, head: 1 }] });
  t.equal(result.tokens.map((token: { text: string }) => token.text).join(''), TEXT);
  t.ok(result.tokens.every((token: { next: unknown[] }) => token.next.length === 2));
  t.equal(result.attention.length, 1);
  for (const [row, weights] of result.attention[0].weights.entries()) {
    t.equal(weights.length, row + 1);
    t.ok(Math.abs(weights.reduce((sum: number, weight: number) => sum + weight, 0) - 1) < 1e-5);
  }
  const data = JSON.parse(/id="data">(.*)<\/script>/.exec(html)?.[1] ?? '');
  t.equal(data.loss, Number(result.loss.toPrecision(5)));
  t.equal(data.heads.length, 2);
});

t.test('what cannot be', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 1 }), { cwd });
  const words = ['explain', '--model', 'runs/a', '--device', 'cpu'];
  const [none, long, layer, folder] = await Promise.all([
    kotodama(words, { cwd }),
    kotodama([...words, '--text', 'human '.repeat(40)], { cwd }),
    kotodama([...words, '--text', 'a', '--layer', '1'], { cwd }),
    kotodama([...words, '--text', 'a', '--out', 'no/such/page.html'], { cwd }),
  ]);
  t.equal(none.code, 2);
  t.match(none.stderr, '--text: expected TEXT, received nothing');
  t.equal(long.code, 2);
  t.match(long.stderr, /length of the text: expected 1 to 16 tokens/);
  t.match(layer.stderr, '--layer: expected an integer from 0 to 0, received 1');
  t.equal(folder.code, 1);
  t.match(folder.stderr, /^error ERR_IO: no\/such\/page.html could not be written/);
});

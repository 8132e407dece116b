import { createHash } from 'node:crypto';
import t from 'tap';
import { explanationPage } from '../../dist/index.js';
import { explanationOf, HOSTILE } from './helpers/explanation.js';

const page = explanationPage(explanationOf(['All', ' human', HOSTILE, '']), { model: `runs/<b>"a"` });

/** What a page was made with. */
function dataOf(html: string) {
  return JSON.parse(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/.exec(html)?.[1] ?? '');
}

/** The weights of the second head. */
function weightsOf(data: { heads: { weights: string }[] }): number[] {
  const bytes = Buffer.from(data.heads[1]!.weights, 'base64');
  return Array.from({ length: bytes.length / 2 }, (_, index) => (bytes.readUInt16LE(2 * index) / 65535) ** 2);
}

t.test('what a text says stays text', async (t) => {
  t.equal(page.match(/<script/g)?.length, 2, 'the data and our own script');
  t.notMatch(page, '<img');
  t.match(page, '<title>runs/&lt;b&gt;&quot;a&quot; explained</title>');
});

t.test('the policy allows the script and the style of the page and nothing else', async (t) => {
  const policy = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)?.[1] ?? '';
  const hash = (content: string) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
  const script = /<script>([\s\S]*?)<\/script>/.exec(page)?.[1] ?? '';
  const style = /<style>([\s\S]*?)<\/style>/.exec(page)?.[1] ?? '';
  t.ok(script.length > 1000 && style.length > 1000);
  t.match(policy.split('; '), [`default-src 'none'`, `script-src ${hash(script)}`, `style-src ${hash(style)}`]);
  t.notMatch(policy, /unsafe|http/);
  const outside = page.replaceAll(/http:\/\/www\.w3\.org\/2000\/svg/g, '').match(/https?:\/\/|src=|@import/g);
  t.equal(outside?.filter((part) => part !== 'src=').length ?? 0, 0, 'nothing comes from elsewhere');
});

t.test('the data in the page', async (t) => {
  const data = dataOf(page);
  t.match(data, {
    model: `runs/<b>"a"`,
    loss: 2,
    tokens: [
      { text: 'All', loss: null },
      { text: ' human', loss: 1 },
    ],
  });
  t.equal(data.tokens[2].text, HOSTILE);
  t.equal(data.tokens[1].probability, Number(Math.exp(-1).toPrecision(5)));
  t.same(data.tokens[0].next[1], [7, ' other 0', 0.25]);
  const expected = [1, 0.8, 0.2, 0.8, 0, 0.2, 0.8, 0, 0, 0.2];
  t.same(
    weightsOf(data).map((weight) => Number(weight.toFixed(4))),
    expected,
  );
});

t.test('weights of a head that looks everywhere stay, and one above 1 is 1', async (t) => {
  const length = 1024;
  const diffuse = Float32Array.from({ length: (length * (length + 1)) / 2 }, (_, index) => {
    const row = Math.floor((Math.sqrt(8 * index + 1) - 1) / 2);
    return row === 0 ? 1.00098 : 1 / (row + 1);
  });
  const texts = Array.from({ length }, () => 'a');
  const attention = [0, 1].map((head) => ({ layer: 0, head, weights: diffuse }));
  const weights = weightsOf(dataOf(explanationPage({ ...explanationOf(texts), attention })));
  t.equal(weights.length, diffuse.length);
  t.equal(weights[0], 1);
  for (const row of [1, 299, 599, 1023]) {
    const first = (row * (row + 1)) / 2;
    const sum = weights.slice(first, first + row + 1).reduce((sum, weight) => sum + weight, 0);
    t.ok(Math.abs(sum - 1) < 1e-3, `row ${row} sums to ${sum}`);
  }
});

t.test('without a name, and without attention', async (t) => {
  const plain = explanationPage({ ...explanationOf(['a']), attention: [] });
  t.match(plain, '<title>model explained</title>');
});

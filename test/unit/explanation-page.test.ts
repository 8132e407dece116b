import { createHash } from 'node:crypto';
import t from 'tap';
import { explanationPage } from '../../dist/index.js';
import { explanationOf, HOSTILE } from './helpers/explanation.js';

const page = explanationPage(explanationOf(['All', ' human', HOSTILE, '']), { model: `runs/<b>"a"` });

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
  const data = JSON.parse(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/.exec(page)?.[1] ?? '');
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
  t.same([...Buffer.from(data.heads[1].weights, 'base64')], [255, 204, 51, 204, 0, 51, 204, 0, 0, 51]);
});

t.test('without a name, and without attention', async (t) => {
  const plain = explanationPage({ ...explanationOf(['a']), attention: [] });
  t.match(plain, '<title>model explained</title>');
});

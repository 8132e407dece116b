import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { articles, inManyOrders, readDemoTexts } from '../../dist/cli/demo-text.js';
import { kotodama } from './program.js';

t.test('articles of a declaration: headings, paragraphs and lists as text, one line each', async (t) => {
  const html = `<!doctype html><html><head><title>Not this</title></head>
  <body>
    <h1>The &quot;Declaration&quot;</h1>
    <header><p>Whereas <b>all</b>
      are equal &amp; free,</p></header>
    <article data-number="1"><h2>Article 1</h2><p>First&#x2014;of&#8212;all &unknown;</p></article>
    <article data-number="2"><h2>Article 2</h2><ol><li>one</li><li>two</li></ol></article>
    <article data-number="3"></article>
  </body></html>`;
  t.same(articles(html), [
    'The "Declaration" Whereas all are equal & free,',
    'Article 1 First—of—all &unknown;',
    'Article 2 one two',
  ]);
});

t.test('the texts: whole articles in eight languages, a part of them aside', async (t) => {
  const { languages, train, valid } = readDemoTexts();
  t.equal(languages.length, 8);
  t.equal(train.length + valid.length, 8 * 31, 'a preamble and thirty articles each');
  t.ok(valid.length >= 8 && valid.length <= 24);
  t.ok(train.some((text) => text.includes('すべての人間は、生まれながらにして自由であり')));
  t.ok(train.some((text) => text.startsWith('Article 1 All human beings are born free and equal')));
  for (const text of [...train, ...valid]) t.notMatch(text, /[<>\n]|&[a-z]+;/);
  t.ok(valid.every((text) => !train.includes(text)));
});

t.test('many orders: every text as often, in an order that only the seed decides', async (t) => {
  const texts = Array.from({ length: 20 }, (_, index) => `text ${index}`);
  const ordered = inManyOrders(texts, 3, 1);
  const passes = [0, 20, 40].map((start) => ordered.slice(start, start + 20));
  for (const pass of passes) t.same([...pass].sort(), [...texts].sort());
  t.equal(new Set(passes.map(String)).size, 3);
  t.same(inManyOrders(texts, 3, 1), ordered);
  t.notSame(inManyOrders(texts, 3, 2), ordered);
});

t.test('the demo trains, shows samples, and says what to type next', async (t) => {
  const cwd = t.testdir();
  const run = await kotodama(['demo', '--max-steps', '2', '--device', 'cpu', '--out', 'here'], { cwd });
  t.equal(run.code, 0, run.stderr);
  t.match(run.stderr, /Before training.*\n {2}\| Everyone has the right to.*\n {2}\| すべて人は、/);
  t.match(run.stderr, 'kotodama train --train here/text/train.txt --valid here/text/valid.txt');
  t.match(run.stderr, /eval at step 2: loss \d/);
  t.match(run.stderr, /Now the same beginnings.*\n {2}\| Everyone has the right to/);
  t.match(run.stderr, 'npx kotodama generate --model here --prompt "Everyone has the right to"');
  t.match(run.stderr, 'npx kotodama explain --model here --text');
  t.notMatch(run.stderr, 'learned by heart', 'nothing rose in two steps');
  t.match(readFileSync(join(cwd, 'here', 'report.html'), 'utf8'), '"history":');
  const again = await kotodama(['train', '--resume', '--out', 'here', '--max-steps', '3', '--json'], { cwd });
  t.equal(again.code, 0, again.stderr);
});

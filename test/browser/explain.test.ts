// The page of an explanation as a person uses it: mouse, touch, keyboard, screen reader; hostile text.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BrowserContextOptions } from 'playwright-core';
import t from 'tap';
import { type Explanation, explanationPage } from '../../dist/index.js';
import { explanationOf, HOSTILE } from '../unit/helpers/explanation.js';
import { complaintsOf, launch, skip } from './chromium.js';

const TEXTS = ['All', ' human', ' beings', '\n', '', '権', HOSTILE, '\u202e!'];
const SHOWN = ['All', '·human', '·beings', '↵', '…', '権', HOSTILE.replaceAll(' ', '·'), 'U+202E!'];

t.test('in Chromium', { skip }, async (t) => {
  const browser = await launch();
  t.teardown(() => browser.close());

  /** Opens the page from a file, as a person does. */
  async function open(explanation: Explanation, options: BrowserContextOptions = {}) {
    const path = join(t.testdir(), 'explain.html');
    writeFileSync(path, explanationPage(explanation, { model: 'runs/a' }));
    const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
    const page = await context.newPage();
    const complaints = complaintsOf(page);
    await page.goto(pathToFileURL(path).href);
    return { page, complaints };
  }

  t.test('what it shows', async (t) => {
    const { page, complaints } = await open(explanationOf(TEXTS));
    t.equal(await page.title(), 'runs/a explained');
    t.match(await page.locator('.lead').textContent(), /^8 tokens, a mean loss of 4\.00 nats: .* 55 equally likely/);
    t.match(await page.locator('.lead').textContent(), 'The first guess came 1 of 7 times.');
    const tokens = page.locator('.token');
    t.same(await tokens.allTextContents(), SHOWN);
    const heats = await tokens.evaluateAll((labels) => labels.map((label) => label.style.getPropertyValue('--loss')));
    t.equal(heats[0], '0');
    t.ok(Math.abs(Number(heats[3]) - 3 / Math.log(2048)) < 1e-6);
    t.match(
      await page.locator('.facts').textContent(),
      /^U\+202E!Expected with 0\.09 %, guess 7 of 2,048: a loss of 7\.00/,
    );
    t.match(await page.locator('.details').textContent(), 'The text ends here.');
    t.same(complaints, []);
    await page.close();
  });

  t.test('hostile text is shown and does nothing', async (t) => {
    const { page, complaints } = await open(explanationOf(TEXTS));
    await page.locator('.token').nth(5).click();
    t.match(await page.locator('.bars.heat li').first().textContent(), HOSTILE);
    await page.locator('summary').click();
    t.match(await page.locator('table').textContent(), HOSTILE);
    t.equal(await page.evaluate('window.harmed'), undefined);
    t.equal(await page.locator('img').count(), 0);
    // Even if it were markup, the policy would stop it.
    await page.evaluate((html) => document.body.insertAdjacentHTML('beforeend', html), HOSTILE);
    await page.waitForTimeout(200);
    t.equal(await page.evaluate('window.harmed'), undefined);
    t.ok(
      complaints.every((complaint) => /Content Security Policy/.test(complaint)),
      `${complaints}`,
    );
    await page.close();
  });

  t.test('a mouse shows tokens in passing, a click keeps one; heads and the map', async (t) => {
    const { page } = await open(explanationOf(TEXTS));
    const name = () => page.locator('.facts h2').textContent();
    await page.locator('.token').nth(1).hover();
    t.equal(await name(), '·human');
    await page.mouse.move(5, 5);
    t.equal(await name(), 'U+202E!', 'back to the chosen one');
    await page.locator('.token').nth(2).click();
    await page.mouse.move(5, 5);
    t.equal(await name(), '·beings');
    t.match(await page.locator('.facts').textContent(), 'The first guess was “ beings” with 50 %.');
    t.same(await page.locator('.bars.look li').allTextContents(), ['“ beings”·beings100 %itself']);
    t.match(await page.locator('.bars.heat li').first().textContent(), 'this came');

    await page.locator('.head').nth(3).click();
    t.equal(await page.locator('#looks').textContent(), 'What layer 1, head 1 looks at');
    t.same(await page.locator('.bars.look li').allTextContents(), ['“All”All80 %2 back', '“ beings”·beings20 %itself']);
    const weight = await page
      .locator('.token')
      .first()
      .evaluate((label) => label.style.getPropertyValue('--weight'));
    t.equal(weight, '1', 'the most');

    const box = (await page.locator('.matrix canvas').boundingBox())!;
    await page.mouse.click(box.x + 3, box.y + (box.height * 1.5) / TEXTS.length);
    await page.mouse.move(5, 5);
    t.equal(await name(), '·human');
    await page.close();
  });

  t.test('the map is painted: a square for each weight, darker for more', async (t) => {
    const { page } = await open(explanationOf(TEXTS));
    await page.locator('.head').nth(1).click();
    const alphas = await page.locator('.matrix canvas').evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
      return Array.from({ length: canvas.width * canvas.height }, (_, i) => data[4 * i + 3]);
    });
    const size = TEXTS.length;
    const expected = Array.from({ length: size * size }, (_, i) => {
      const [row, column] = [Math.floor(i / size), i % size];
      const weight = row === 0 ? (column === 0 ? 1 : 0) : column === 0 ? 0.8 : column === row ? 0.2 : 0;
      return Math.round(255 * Math.sqrt(weight));
    });
    t.same(alphas, expected);
    await page.close();
  });

  t.test('with the keyboard, and as a screen reader has it', async (t) => {
    const { page } = await open(explanationOf(TEXTS));
    await page.keyboard.press('Tab');
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
    t.equal(await focused(), '“\u202e!”. Expected with 0.09 %, guess 7 of 2,048: a loss of 7.00 nats.');
    for (let i = 0; i < 5; i++) await page.keyboard.press('ArrowLeft');
    t.match(await focused(), /^“ beings”/);
    t.match(await page.getByRole('status').textContent(), 'Next it expects “new line” with 50 %.');
    await page.keyboard.press('Tab');
    t.equal(await focused(), 'layer 0, head 0');
    await page.keyboard.press('ArrowDown');
    t.equal(await focused(), 'layer 0, head 1');
    t.equal(await page.locator('#looks').textContent(), 'What layer 0, head 1 looks at');
    t.match(await page.getByRole('radiogroup').or(page.getByRole('group')).first().getAttribute('class'), 'text');
    const unnamed = await page.locator('input:not([aria-label]), canvas:not([aria-label]):not([aria-hidden])').count();
    t.equal(unnamed, 0);
    t.equal(await page.locator('html').getAttribute('lang'), 'en');
    await page.close();
  });

  t.test('on a phone, in the dark: nothing wider than the screen, and text that can be read', async (t) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page, complaints } = await open(explanationOf(TEXTS), {
        ...{ viewport: { width: 360, height: 740 }, colorScheme, hasTouch: true, isMobile: true },
      });
      await page.locator('.token').nth(1).tap();
      t.equal(await page.locator('.facts h2').textContent(), '·human');
      t.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
      const contrasts = await page.locator('.token').evaluateAll(contrastsOf);
      for (const contrast of contrasts) t.ok(contrast >= 4.5, `${colorScheme}: ${contrast.toFixed(2)} to 1`);
      t.same(complaints, []);
      await page.close();
    }
  });

  t.test('one token, one head, no head', async (t) => {
    const one = explanationOf(['a']);
    const { page, complaints } = await open({ ...one, attention: one.attention.slice(0, 1) });
    t.equal(await page.locator('.lead').textContent(), 'One token: what the model expects after it.');
    t.match(await page.locator('.facts').textContent(), 'Nothing comes before it, so nothing was expected.');
    t.equal(await page.locator('.heads').count(), 0);
    t.same(complaints, []);
    await page.close();
    const none = await open({ ...one, attention: [] });
    t.equal(await none.page.locator('.attention').count(), 0);
    t.same(none.complaints, []);
    await none.page.close();
  });

  t.test('without JavaScript the text is there', async (t) => {
    const { page } = await open(explanationOf(TEXTS), { javaScriptEnabled: false });
    t.match(await page.locator('noscript').textContent(), 'All human beings');
    await page.close();
  });

  t.test('a long text: a thousand tokens and a hundred heads', async (t) => {
    const texts = Array.from({ length: 200 }, (_, index) => ` word${index}`);
    const long = explanationOf(texts);
    const attention = Array.from({ length: 144 }, (_, index) => ({
      ...long.attention[1]!,
      layer: Math.floor(index / 12),
      head: index % 12,
    }));
    const { page, complaints } = await open({ ...long, attention });
    await page.locator('.token').nth(150).click();
    t.match(await page.locator('.bars.look').textContent(), '150 back');
    t.equal(await page.locator('.head').count(), 144);
    t.same(complaints, []);
    await page.close();
  });

  t.test('a head that looks at all of a long text alike', async (t) => {
    const length = 600;
    const weights = Float32Array.from({ length: (length * (length + 1)) / 2 }, (_, index) => {
      return 1 / (Math.floor((Math.sqrt(8 * index + 1) - 1) / 2) + 1);
    });
    const long = explanationOf(Array.from({ length }, (_, index) => ` word${index}`));
    const { page } = await open({ ...long, attention: [{ layer: 0, head: 0, weights }] });
    const looks = page.locator('.bars.look li');
    t.match(await looks.first().textContent(), '0.2 %');
    t.equal(await looks.count(), 8);
    const bar = (label: HTMLElement) => Number(label.style.getPropertyValue('--weight'));
    t.ok((await page.locator('.token').nth(300).evaluate(bar)) > 0.99, 'as much as at any other');
    await page.close();
  });
});

/** Contrast of text and background of elements on a card by WCAG 2, from pixels that the browser makes of the colours. */
function contrastsOf(elements: Element[]): number[] {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  const luminanceAfter = (colour: string) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = Array.from(context.getImageData(0, 0, 1, 1).data.slice(0, 3), (value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return elements.map((element) => {
    luminanceAfter(getComputedStyle(element.closest('.card')!).backgroundColor);
    const back = luminanceAfter(getComputedStyle(element).backgroundColor);
    const front = luminanceAfter(getComputedStyle(element).color);
    return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  });
}

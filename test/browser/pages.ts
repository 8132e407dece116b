import type { Browser, Page } from 'playwright-core';
import { launch, skip } from './chromium.js';

type Test = {
  teardown(work: () => unknown): void;
  plan(n: number, comment: string): void;
  fail(message: string): void;
};

/** What a page must never do. */
export interface Faults {
  /** Exceptions, and what the console was told, policy violations among them. */
  errors: string[];
  /** Requests beyond the page's own server. */
  foreign: string[];
}

/** Starts a browser that ends with the test, or says why it cannot: CI must have one. */
export async function launchFor(t: Test): Promise<Browser | undefined> {
  if (skip !== false) {
    if (process.env.CI === 'true') t.fail(skip);
    else t.plan(0, skip);
    return undefined;
  }
  const browser = await launch();
  t.teardown(() => browser.close());
  return browser;
}

export type PageOptions = { width?: number; height?: number; colorScheme?: 'light' | 'dark'; hasTouch?: boolean };

/** Opens a page, and notes its faults. */
export async function open(
  browser: Browser,
  url: string,
  options: PageOptions = {},
): Promise<{ page: Page; faults: Faults }> {
  const { width = 1200, height = 900, ...rest } = options;
  const context = await browser.newContext({ viewport: { width, height }, ...rest });
  const page = await context.newPage();
  const faults: Faults = { errors: [], foreign: [] };
  page.on('pageerror', (error) => faults.errors.push(error.message));
  page.on('console', (message) => {
    // A server that is gone for a while is told to the console too.
    if (message.type() === 'error' && !message.text().includes('net::ERR')) faults.errors.push(message.text());
  });
  page.on('request', (request) => {
    const target = request.url();
    if (!target.startsWith('data:') && !target.startsWith('blob:') && new URL(target).origin !== new URL(url).origin) {
      faults.foreign.push(target);
    }
  });
  await page.goto(url);
  await drawn(page);
  return { page, faults };
}

/** A page draws what changed in its next frame; this returns after it. */
export async function drawn(page: Page): Promise<void> {
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
}

/** Text that would run if it became markup, and its traces. */
export const HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1"><b>bold</b>';

export function hacked(page: Page): Promise<unknown> {
  return page.evaluate(
    () => (window as unknown as { hacked?: number }).hacked ?? document.querySelectorAll('img').length,
  );
}

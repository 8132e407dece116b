import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The Chromium of this machine, or of the variable CHROMIUM; undefined when there is none. */
export const executable = process.env.CHROMIUM ?? PLACES.find((path) => existsSync(path));

/** Why these tests do not run, or false when they do: tap's `skip`. */
export const skip =
  executable === undefined ? 'no Chromium here: install it (Debian: apt-get install chromium) or set CHROMIUM' : false;

/** Starts the browser. The sandbox needs rights that containers and root do not have; the pages are our own. */
export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: executable as string, args: ['--no-sandbox'] });
}

/** What a page complained about: errors and refusals of its policy. */
export function complaintsOf(page: Page): string[] {
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  return complaints;
}

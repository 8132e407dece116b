import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { OptionReader } from '../validate.js';

/** How far the download of one file is. */
export interface DownloadProgress {
  /** `owner/name` */
  repository: string;
  file: string;
  /** Bytes here, those of an earlier, interrupted download included. */
  loadedBytes: number;
  totalBytes: number;
}

/** How models and tokenizers are fetched from a hub. None of it matters for a local folder. */
export interface HubOptions {
  /** Branch, tag or commit [main]. */
  revision?: string | undefined;
  /** Access token for private and gated models [HF_TOKEN, else the file that `hf auth login` writes]. */
  token?: string | undefined;
  /** Where files are kept, in the layout of Python's huggingface_hub [HF_HUB_CACHE, else HF_HOME/hub]. */
  cacheDir?: string | undefined;
  /** Whether only that folder is used, and no network [HF_HUB_OFFLINE]. */
  offline?: boolean | undefined;
  /** Called when a download begins, while it runs, and when it has ended. */
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

/** Options with their defaults from the environment. */
export interface HubSettings {
  /** Without a slash at its end. */
  endpoint: string;
  cacheDir: string;
  revision: string | undefined;
  token: string | undefined;
  offline: boolean;
  onProgress: (progress: DownloadProgress) => void;
}

/**
 * Fills in what Python's huggingface_hub would take from the environment: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN,
 * HF_TOKEN_PATH, HF_HUB_OFFLINE and their older names.
 *
 * @throws KotodamaError `ERR_OPTIONS`
 */
export function readHubOptions(options: HubOptions, environment: NodeJS.ProcessEnv = process.env): HubSettings {
  const reader = new OptionReader(options);
  reader.onlyKnown(['revision', 'token', 'cacheDir', 'offline', 'onProgress']);
  const { onProgress = () => {} } = options;
  if (typeof onProgress !== 'function') reader.problem('onProgress', 'a function', onProgress);
  const home =
    firstOf(environment, 'HF_HOME') ?? join(firstOf(environment, 'XDG_CACHE_HOME') ?? '~/.cache', 'huggingface');
  const cacheDir = firstOf(environment, 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE') ?? join(home, 'hub');
  const settings = {
    endpoint: readEndpoint(firstOf(environment, 'HF_ENDPOINT') ?? 'https://huggingface.co'),
    cacheDir: inHome(reader.string('cacheDir', cacheDir)),
    revision: reader.string('revision', undefined),
    token: readToken(reader, environment, home),
    offline: reader.boolean('offline', isTrue(firstOf(environment, 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'))),
    onProgress,
  };
  reader.finish('These options cannot be used to fetch from a hub');
  return settings;
}

function firstOf(environment: NodeJS.ProcessEnv, ...names: string[]): string | undefined {
  return names.map((name) => environment[name]?.trim()).find((value) => value !== undefined && value !== '');
}

function isTrue(value: string | undefined): boolean {
  return ['1', 'on', 'yes', 'true'].includes(value?.toLowerCase() ?? '');
}

function inHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

function readEndpoint(text: string): string {
  if (URL.canParse(text) && /^https?:/.test(text)) return text.replace(/\/+$/, '');
  throw new KotodamaError('ERR_OPTIONS', 'HF_ENDPOINT', { expected: 'the address of a hub', received: `'${text}'` });
}

/** The first token that is given anywhere; a header must be able to hold it. */
function readToken(reader: OptionReader, environment: NodeJS.ProcessEnv, home: string): string | undefined {
  const token = reader.string('token', undefined)?.trim() ?? tokenOf(environment, home);
  if (token === undefined || /^[\x21-\x7e]+$/.test(token)) return token;
  // The value is a secret, which no message may show.
  reader.problems.add(
    'token',
    'printable ASCII characters without spaces',
    token === '' ? 'only white space' : 'a token with others in it',
    'copy it again, as one line; without the option it comes from HF_TOKEN or the file that `hf auth login` writes',
  );
  return undefined;
}

function tokenOf(environment: NodeJS.ProcessEnv, home: string): string | undefined {
  const given = firstOf(environment, 'HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN');
  if (given !== undefined) return given;
  try {
    const path = inHome(firstOf(environment, 'HF_TOKEN_PATH') ?? join(home, 'token'));
    return readFileSync(path, 'utf8').trim() || undefined;
  } catch {
    return undefined; // Most people have none and need none.
  }
}

import { KotodamaError } from '../errors.js';

/** A model on a hub. */
export interface HubId {
  /** `owner/name` */
  name: string;
  /** Branch, tag or commit behind an `@`, when there is one. */
  revision: string | undefined;
}

/** The hub's names: letters, digits, `_`, `-` and `.`, no two of `-` and `.` in a row (they would clash in the cache). */
const NAME = /^(?!.*(?:--|\.\.))\w[\w.-]*\/\w[\w.-]*$/;

/** What git allows and no path or URL can be misled by; `refs/pr/1` is one. */
const REVISION = /^(?!.*\.\.)\w[\w.-]*(?:\/\w[\w.-]*)*$/;

/** `owner/name` or `owner/name@revision`; undefined for what can only be a path. */
export function parseHubId(text: string): HubId | undefined {
  const at = text.indexOf('@');
  const name = at < 0 ? text : text.slice(0, at);
  if (!NAME.test(name)) return undefined;
  return { name, revision: at < 0 ? undefined : text.slice(at + 1) };
}

/** What to do about a name that is neither a folder here nor the name of a `what` on a hub. */
export function hubHint(what: string, name: string): string {
  const [, id = ''] = /^https?:\/\/[^/]+\/([^/]+\/[^/?#]+)/.exec(name) ?? [];
  if (parseHubId(id) !== undefined && !/^(?:datasets|spaces)\//.test(id)) return `give its name alone, ${id}`;
  return `check the path; a ${what} of the Hub is named owner/name, such as openai-community/gpt2`;
}

/** @throws KotodamaError `ERR_OPTIONS` when it is not the name of a branch, tag or commit */
export function checkRevision(revision: string): string {
  if (REVISION.test(revision)) return revision;
  throw new KotodamaError('ERR_OPTIONS', 'revision', {
    expected: 'a branch, tag or commit such as main, v1.0 or refs/pr/1',
    received: `'${revision}'`,
  });
}

/** Whether a revision is a commit, which never changes. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

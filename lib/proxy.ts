/**
 * What a hint says where `url` cannot be reached, and the environment names a proxy that Node does not use by itself; empty
 * without one.
 */
export function proxyHint(url: string, environment: NodeJS.ProcessEnv = process.env): string {
  const variable = new URL(url).protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const found = [variable, variable.toLowerCase()].find((name) => environment[name]);
  return found === undefined
    ? ''
    : `; ${found} is used by Node from 22.21 and 24.5 on alone, with NODE_USE_ENV_PROXY=1`;
}

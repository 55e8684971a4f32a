// The logins of a data directory: taken up by a running cache as they change, and checked and kept by commands.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/load.ts';
import { makeDirectory } from '../content/local/layout.ts';
import { credentialsOf } from '../credentials/credential.ts';
import { CredentialStore } from '../credentials/store.ts';
import type { Registry } from '../operations/login.ts';
import { inSentences, lockFile } from './data-directory.ts';
import type { Environment } from './environment.ts';
import { requestsTo } from './upstreams.ts';

const LOOK_MS = 1_000;

/** Those of a running cache, which follow the file until `stack` is disposed of. Throws a sentence. */
export async function followLogins(
  { data }: Pick<Config, 'data'>,
  { clock, log }: Environment,
  stack: AsyncDisposableStack,
): Promise<CredentialStore> {
  const store = await CredentialStore.open(fileIn(data), lockFile);
  store.onChange(() => {
    const names = store.logins.map(({ host, name }) => `"${name}" for ${host}`).join(', ');
    log.info({}, `the logins were changed: ${names === '' ? 'there is none now' : names}`);
  });
  let said = '';
  let isLooking = false;
  const look = async () => {
    // On a disk that hangs.
    if (isLooking) return;
    isLooking = true;
    try {
      await store.refresh();
      said = '';
    } catch (error) {
      const { message } = error as Error;
      if (message !== said) log.error({}, `the logins stay as they were: ${message}`);
      said = message;
    } finally {
      isLooking = false;
    }
  };
  stack.defer(clock.every(LOOK_MS, () => void look()));
  return store;
}

/** Those of a data directory, which is made if need be. Throws a sentence. */
export async function openLogins({ data }: Pick<Config, 'data'>): Promise<CredentialStore> {
  await inSentences(data, () => makeDirectory(data));
  const { uid } = await stat(data);
  if (uid !== (process.geteuid?.() ?? uid)) {
    // What we write there the server could not read.
    throw new Error(`${data} belongs to another user (uid ${uid}); run this as that user, who runs the server`);
  }
  return CredentialStore.open(fileIn(data), lockFile);
}

/** An upstream of the config, to check logins at; undefined when it is none. Contacts nothing yet. `stack` owns connections. */
export function registryOf(
  config: Config,
  host: string,
  environment: Environment,
  stack: AsyncDisposableStack,
): Registry | undefined {
  const upstream = config.upstreams.get(host);
  if (upstream === undefined) return undefined;
  const requests = requestsTo(host, upstream, credentialsOf([]), environment);
  stack.defer(() => requests.close());
  const { url, api, realms } = upstream;
  return { name: host, url, api, realms, dialer: requests.dialer, clock: environment.clock };
}

function fileIn(data: string): string {
  return join(data, 'credentials.json');
}

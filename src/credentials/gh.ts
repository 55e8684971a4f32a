// The token of GitHub's own command line: `gh auth token`, asked each time, since a person may log in again, but once
// for all who ask meanwhile.
import { type ExecFileException, execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SingleFlight } from '../base/single-flight.ts';
import type { Login, OwnedCredential } from './credential.ts';
import { ANY_USERNAME, type Complain, secretIn } from './sources.ts';

const TIMEOUT_MS = 10_000;

/** The login of gh at the GitHub that has this API. Read throws what `complain` makes. */
export function ghCredential(api: URL, env: NodeJS.ProcessEnv, complain: Complain): OwnedCredential {
  const host = hostOf(api);
  const reading = new SingleFlight<Login>();
  return {
    name: 'gh',
    owner: '*',
    read: () => reading.run('', () => ask(host, env, complain)).result,
  };
}

async function ask(host: string, env: NodeJS.ProcessEnv, complain: Complain): Promise<Login> {
  const asked = promisify(execFile)('gh', ['auth', 'token', '--hostname', host], { env, timeout: TIMEOUT_MS });
  const { stdout } = await asked.catch(error => {
    throw complain(failureOf(error, host));
  });
  return { username: ANY_USERNAME, secret: secretIn(stdout, 'the token that gh prints', complain) };
}

/** `github.com`; of GitHub Enterprise Server `https://HOST/api/v3`, and at ghe.com `https://api.SUBDOMAIN.ghe.com`. */
function hostOf({ hostname }: URL): string {
  return /^api\.(?:github\.com|[^.]+\.ghe\.com)$/.test(hostname) ? hostname.slice('api.'.length) : hostname;
}

function failureOf({ code, killed }: ExecFileException, host: string): string {
  if (killed) return `gh did not answer within ${TIMEOUT_MS / 1000} seconds`;
  if (code === 'ENOENT') return 'gh is not in PATH';
  return `gh has no login for ${host}; run "gh auth login -h ${host} -s read:packages" as the user that runs this`;
}

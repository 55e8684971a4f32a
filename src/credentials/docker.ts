// Credentials that `docker login` stored: in the docker client's config.json itself, or in a credential helper that it
// names. That there is an entry is checked at start; what it holds is read each time, since a person may log in again.
import { type ExecFileException, execFile } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { SingleFlight } from '../base/single-flight.ts';
import type { Login, OwnedCredential } from './credential.ts';
import { type Complain, readText, secretIn } from './sources.ts';

const HELPER_TIMEOUT_MS = 10_000;

/** What docker calls Docker Hub in its config. */
const DOCKER_HUB_SERVER = 'https://index.docker.io/v1/';

const entrySchema = z.object({ auth: z.string().optional(), identitytoken: z.string().optional() });
const configSchema = z.object({
  auths: z.record(z.string(), entrySchema).default({}),
  credHelpers: z.record(z.string(), z.string()).default({}),
  credsStore: z.string().optional(),
});

const helperOutputSchema = z.object({ Username: z.string(), Secret: z.string() });

type Entry = Login | { readonly helper: string; readonly server: string };

/** What docker would use for `host`. Throws what `complain` makes when docker has no login for it. */
export function dockerCredential(host: string, env: NodeJS.ProcessEnv, complain: Complain): OwnedCredential {
  const file = join(env.DOCKER_CONFIG || join(env.HOME || homedir(), '.docker'), 'config.json');
  findEntry(host, file, complain);
  // A helper is a process: one at a time.
  const running = new SingleFlight<Login>();
  return {
    name: 'docker',
    owner: '*',
    async read() {
      const current = findEntry(host, file, complain);
      const login =
        'helper' in current
          ? await running.run(current.helper, () => runHelper(current, env, complain)).result
          : current;
      const secret = secretIn(login.secret, `the password for ${host} in ${file}`, complain);
      return { username: login.username, secret };
    },
  };
}

function findEntry(host: string, file: string, complain: Complain): Entry {
  const config = readDockerConfig(file, complain);
  const server = serverOf(host, Object.keys(config.auths));
  // As in docker, a helper takes precedence over what the file itself holds.
  const helper = config.credHelpers[host] ?? config.credHelpers[server] ?? config.credsStore;
  if (helper) return { helper, server };
  const login = config.auths[server];
  if (login?.identitytoken) throw complain(identityTokenProblem(host));
  if (login?.auth) {
    const [, username, secret] = /^([^:]+):(.+)$/s.exec(Buffer.from(login.auth, 'base64').toString()) ?? [];
    if (username && secret) return { username, secret };
    throw complain(`the entry for ${host} in ${file} cannot be read; run "docker login ${host}" again`);
  }
  throw complain(`docker has no login for ${host} in ${file}; run "docker login ${host}" as the user that runs this`);
}

function readDockerConfig(file: string, complain: Complain): z.output<typeof configSchema> {
  const text = readText(file, problem => complain(`docker keeps its logins in ${file}: ${problem}`));
  try {
    return configSchema.parse(JSON.parse(text));
  } catch {
    throw complain(`${file} is not a docker config`);
  }
}

/** Runs `docker-credential-<helper> get`, whose protocol is the server on stdin and JSON on stdout. */
async function runHelper(
  { helper, server }: { helper: string; server: string },
  env: NodeJS.ProcessEnv,
  complain: Complain,
): Promise<Login> {
  const program = `docker-credential-${helper}`;
  const running = promisify(execFile)(program, ['get'], { env, timeout: HELPER_TIMEOUT_MS });
  // A helper that exits without reading its input breaks the pipe; its exit code says the rest.
  running.child.stdin?.on('error', () => {});
  running.child.stdin?.end(server);
  const { stdout } = await running.catch(error => {
    throw complain(`${program} gives no credential for ${server}: ${failureOf(error)}`);
  });
  try {
    const { Username, Secret } = helperOutputSchema.parse(JSON.parse(stdout));
    // Not a user name: docker's mark of an identity token.
    if (Username !== '<token>') return { username: Username, secret: Secret };
  } catch {
    throw complain(`${program} prints something that is not a credential`);
  }
  throw complain(identityTokenProblem(server));
}

function failureOf({ code, killed, stdout }: ExecFileException): string {
  if (killed) return `it did not answer within ${HELPER_TIMEOUT_MS / 1000} seconds`;
  if (code === 'ENOENT') return 'it is not in PATH';
  // On failure, and only then, stdout is an error message.
  return stdout?.split('\n', 1)[0]?.slice(0, 200) || `it failed with ${code}`;
}

function identityTokenProblem(server: string): string {
  return `docker has an identity token for ${server}, which only docker can use; write a token into this file instead`;
}

/**
 * Which key of docker's config is for the host: it as docker writes it now, else as a URL, which old versions wrote, else
 * with a path, by which podman tells the logins of one host apart.
 */
function serverOf(host: string, keys: readonly string[]): string {
  const exact = host === 'docker.io' ? DOCKER_HUB_SERVER : host;
  const spellings = keys.filter(key => hostOf(key) === host);
  const best = spellings.find(key => key === exact) ?? spellings.find(key => OLD_SPELLING.test(key)) ?? spellings[0];
  return best ?? exact;
}

/** `https://host`, with or without the path of an API. */
const OLD_SPELLING = /^https?:\/\/[^/]+(?:\/(?:v[12]\/?)?)?$/;

function hostOf(server: string): string {
  return server === DOCKER_HUB_SERVER ? 'docker.io' : server.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
}

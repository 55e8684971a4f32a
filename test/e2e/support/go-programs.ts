// Clients that Debian has no package of, built from Go modules, whose every version is pinned: crane by the
// command that its authors name, and a client made of oras-go, whose source is beside its class. Built once into
// the user's cache folder, so that only a machine's first run takes the time. Go checks what it downloads.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256 } from './images.ts';

/** What both programs ask for. */
const OLDEST_GO = '1.24';
const CRANE = 'github.com/google/go-containerregistry/cmd/crane@v0.20.7';
const ORAS_SOURCE = fileURLToPath(new URL('clients/oras', import.meta.url));
const ORAS_FILES = ['go.mod', 'go.sum', 'main.go'];

export type GoProgram = 'crane' | 'oras';

/** Where `ensureGoPrograms` has put it. */
export function goProgram(name: GoProgram): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(cache, 'ghcr-cache-e2e', `${name}-${versionOf(name)}`, name);
}

/** Builds what is not built yet. Throws a sentence for a person when it cannot. */
export function ensureGoPrograms(): void {
  build('crane', folder => go(['install', CRANE], folder, { GOBIN: folder }));
  build('oras', folder => go(['build', '-trimpath', '-o', join(folder, 'oras'), '.'], ORAS_SOURCE));
}

function versionOf(name: GoProgram): string {
  if (name === 'crane') return CRANE.split('@')[1] ?? '';
  const sources = ORAS_FILES.map(file => readFileSync(join(ORAS_SOURCE, file)));
  return sha256(Buffer.concat(sources)).slice(0, 12);
}

/** Into a folder that gets its name when the program is complete. */
function build(name: GoProgram, into: (folder: string) => void): void {
  const path = goProgram(name);
  if (existsSync(path)) return;
  assertGo();
  console.log(`building ${name}`);
  const folder = dirname(path);
  mkdirSync(dirname(folder), { recursive: true });
  const unfinished = mkdtempSync(`${folder}-`);
  try {
    into(unfinished);
    rmSync(folder, { recursive: true, force: true });
    renameSync(unfinished, folder);
  } catch (error) {
    const reason = error instanceof Error ? error.message : error;
    throw new Error(`these tests need ${name}, which Go could not build: ${reason}`, { cause: error });
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

function assertGo(): void {
  const version = execFileSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' }).trim();
  const [major = 0, minor = 0] = version
    .replace(/^go/, '')
    .split('.')
    .map(part => Number.parseInt(part, 10));
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_GO.split('.').map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Error(
    `these tests build clients with Go ${OLDEST_GO} or newer, and \`go\` is ${version || 'older'} here`,
  );
}

/** With this machine's proxies and Go settings, unlike the tests: modules do come from outside. */
function go(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): void {
  execFileSync('go', args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'inherit', 'inherit'] });
}

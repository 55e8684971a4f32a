// Programs without a Debian package, built from Go modules. Each has a module in test/go, whose go.mod names the tool
// to build and whose go.sum pins all of its dependencies; Go verifies downloads against it. A module that names no tool
// is a program of our own, with its sources beside its go.mod. Programs are built once, into the user's cache
// directory.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MODULES = fileURLToPath(new URL('../go', import.meta.url));
/** The first with tools in go.mod; it downloads the version that a module asks for. */
const OLDEST_GO = '1.24';

/** A module that the program needs is not available from the configured Go module proxies. */
export class Unobtainable extends Error {}

export interface GoProgram {
  /** The directory of its module in test/go. */
  readonly name: string;
  /** Whether to build the tests of the tool's package in place of the tool. */
  readonly isTest?: boolean;
  /** Build tags. */
  readonly tags?: readonly string[];
}

/** The path that `ensureGoProgram` builds it to. */
export function goProgram({ name, tags = [] }: GoProgram): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  const hash = createHash('sha256');
  for (const file of readdirSync(join(MODULES, name)).sort()) {
    if (/^go\.(mod|sum)$|\.go$/.test(file)) hash.update(readFileSync(join(MODULES, name, file)));
  }
  hash.update(tags.join());
  return join(cache, 'ghcr-cache-tests', `${name}-${hash.digest('hex').slice(0, 12)}`, name);
}

/** Builds the program unless it exists; its path. Throws Unobtainable, or an error with what Go said. */
export function ensureGoProgram(program: GoProgram): string {
  const { name, isTest = false, tags = [] } = program;
  const path = goProgram(program);
  if (existsSync(path)) return path;
  assertGo();
  console.log(`building ${name}`);
  const tagged = tags.length > 0 ? ['-tags', tags.join()] : [];
  const tool = toolOf(name);
  try {
    go(['list', '-deps', ...tagged, ...(isTest ? ['-test'] : []), tool], name);
  } catch (error) {
    throw new Unobtainable(`${name} is not available as a Go module: ${outputOf(error)}`, { cause: error });
  }
  const directory = dirname(path);
  mkdirSync(dirname(directory), { recursive: true });
  const unfinished = mkdtempSync(`${directory}-`);
  try {
    const how = isTest ? ['test', '-c'] : ['build'];
    go([...how, ...tagged, '-trimpath', '-o', join(unfinished, name), tool], name);
    rmSync(directory, { recursive: true, force: true });
    renameSync(unfinished, directory);
  } catch (error) {
    throw new Error(`Go could not build ${name}: ${outputOf(error)}`, { cause: error });
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return path;
}

/** The package to build: the tool that go.mod names, or the module's own program. */
function toolOf(name: string): string {
  const [, tool] = /^tool (\S+)$/m.exec(readFileSync(join(MODULES, name, 'go.mod'), 'utf8')) ?? [];
  if (tool !== undefined) return tool;
  if (existsSync(join(MODULES, name, 'main.go'))) return '.';
  throw new Error(`test/go/${name} has neither a tool in its go.mod nor a main.go`);
}

function assertGo(): void {
  const version = execFileSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' }).trim();
  const [major = 0, minor = 0] = version
    .replace(/^go/, '')
    .split('.')
    .map(part => Number.parseInt(part, 10));
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_GO.split('.').map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Error(`these tests build programs with Go ${OLDEST_GO} or newer, but \`go\` is ${version || 'older'} here`);
}

/**
 * Runs Go with this machine's proxies and settings, unlike the tests, because modules are downloaded. Our own programs
 * are built without the state of this checkout in them.
 */
function go(args: readonly string[], name: string): void {
  execFileSync('go', args, {
    cwd: join(MODULES, name),
    env: { ...process.env, GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function outputOf(error: unknown): string {
  return String((error as { stderr?: unknown }).stderr || error).trim();
}

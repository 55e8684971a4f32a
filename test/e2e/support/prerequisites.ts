// The programs that the tests need. Missing ones are installed with apt-get if possible; otherwise the run fails at
// once and says what is missing and how to install it.
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { environment } from './processes.ts';

/** Program → its Debian package. */
const PACKAGES: Readonly<Record<string, string>> = {
  'docker-registry': 'docker-registry',
  htpasswd: 'apache2-utils',
  skopeo: 'skopeo',
  podman: 'podman',
  buildah: 'buildah',
  docker: 'docker.io',
  dockerd: 'docker.io',
  containerd: 'containerd',
  ctr: 'containerd',
  runc: 'runc',
  iptables: 'iptables',
  busybox: 'busybox-static',
  go: 'golang-go',
};

/** Makes sure that every program is installed. Throws an error that says what to install if it cannot. */
export function ensurePrograms(): void {
  let missing = missingPackages();
  if (missing.length === 0) return;

  const command = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid?.() !== 0 || !pathOf('apt-get')) {
    throw new Error(`these tests need ${missing.join(', ')}. On Debian, as root: ${command}`);
  }
  console.log(`installing ${missing.join(' ')}`);
  for (const line of ['apt-get update', command]) {
    const [program = '', ...args] = line.split(' ');
    // With this machine's proxies, unlike the tests, because packages are downloaded.
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    execFileSync(program, args, { env, stdio: ['ignore', 'inherit', 'inherit'] });
  }
  missing = missingPackages();
  if (missing.length > 0) throw new Error(`still missing after ${command}: ${missing.join(', ')}`);
}

/** A statically linked busybox, which runs in an image without anything else. */
export function staticBusybox(): Buffer {
  const path = pathOf('busybox');
  if (!path) throw new Error('busybox is missing');
  return readFileSync(path);
}

function missingPackages(): string[] {
  const missing = Object.entries(PACKAGES).filter(
    ([program]) => !pathOf(program) || (program === 'busybox' && !isStatic(staticBusybox())),
  );
  return [...new Set(missing.map(([, name]) => name))];
}

/** Whether an ELF program names no loader. One that does needs libraries, which the test images lack. */
function isStatic(program: Buffer): boolean {
  return !program.includes('/ld-linux') && !program.includes('/ld-musl');
}

function pathOf(program: string): string | undefined {
  return environment()
    .PATH?.split(delimiter)
    .map(directory => join(directory, program))
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

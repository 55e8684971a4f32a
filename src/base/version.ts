import { createRequire } from 'node:module';

/** The version of this program, from package.json, which is beside both src/ and dist/. */
export const version: string = createRequire(import.meta.url)('../../package.json').version;

// What ends a download, in words.
import { RegistryError } from '../oci/errors.ts';

/** No client waits for the download, and it was slow or in the way of others. */
export class Abandoned extends Error {}

export function stalled(what: string, stallMs: number): RegistryError {
  return new RegistryError('UNAVAILABLE', `the client took nothing of ${what} for ${stallMs / 1000} s`);
}

export function tooLong(what: string, sizeBytes: number): RegistryError {
  const message = `${what} has more than the ${sizeBytes} bytes that were announced`;
  return new RegistryError('UPSTREAM_INVALID', message);
}

export function otherSize(what: string, sizeBytes: number, now: number | undefined): RegistryError {
  return new RegistryError('UPSTREAM_INVALID', `${what} had ${sizeBytes} bytes at first and now has ${now}`);
}

export function brokeTooOften(
  what: string,
  breaks: number,
  at: number,
  sizeBytes: number | undefined,
  why: string,
  cause: unknown,
): RegistryError {
  const message = `the download of ${what} broke ${breaks} times, last at byte ${at} of ${sizeBytes ?? 'unknown'}: ${why}`;
  return new RegistryError('UPSTREAM_UNAVAILABLE', message, { cause });
}

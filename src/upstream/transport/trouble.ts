import { type ErrorCode, RegistryError } from '../../oci/errors.ts';

interface TroubleOptions {
  /** Whose it is: of a host, whatever it is asked for, or of the image that was asked for. */
  readonly of: 'host' | 'image';
  /** Whether another attempt at once may go better. */
  readonly mayRetry: boolean;
  readonly cause?: unknown;
  readonly retryAfterMs?: number | undefined;
}

/** A host or an image that cannot be had now, where more is known than the code tells. */
export class Trouble extends RegistryError {
  readonly of: 'host' | 'image';
  readonly mayRetry: boolean;

  constructor(code: ErrorCode, message: string, { of, mayRetry, cause, retryAfterMs }: TroubleOptions) {
    super(code, message, { cause, ...(retryAfterMs !== undefined && { retryAfterMs }) });
    this.of = of;
    this.mayRetry = mayRetry;
  }
}

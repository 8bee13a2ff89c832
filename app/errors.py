"""Every error this service raises on purpose.

LiberuError
├── InvalidRequest            the caller's input is wrong; nothing was changed
│   ├── InvalidName           a key, name or path that is not allowed
│   ├── AddressForbidden      a destination's host that must not be reached
│   ├── NothingToBackUp       the domain has none of what the backup would hold
│   ├── IdempotencyMismatch   the same Idempotency-Key with another body
│   └── KeyMaterialInvalid    a recipient, identity or key file that cannot be used
├── NotFound                  no such thing, or not the caller's
├── Unauthenticated           no valid token
├── Forbidden                 a valid token without the ability
├── RateLimited               too many requests: later
│   └── TooManyStreams        of events at once
├── TooLarge                  an upload that is larger than one may be
├── UploadsFull               the uploads of a tenant, or of all, have what they may have
├── AuditBroken               the audit trail is not as it was written
├── Conflict                  the request and the present state exclude each other
│   ├── AlreadyRunning        one backup per domain and type at a time
│   ├── LastOperatorToken     without it nobody could get in
│   ├── DestinationProtected  the default destination, or one that has backups
│   ├── NotRestorable         the backup's state has nothing to restore
│   ├── QuotaExceeded         the tenant has what its quota allows
│   ├── DomainOverlap         another domain has that folder or database, or one around or inside it
│   ├── ConsentRequired       possible only with a flag that the request lacks
│   └── DataFolderLocked      another process uses this data folder
├── StorageError
│   ├── ObjectNotFound
│   ├── DestinationUnreachable
│   │   └── DestinationBusy   the server allows no more connections now
│   ├── DestinationTooSlow    it moves less than others can be kept waiting for
│   ├── DestinationRefused    the server does not accept the credentials
│   ├── HostKeyMismatch       another server answers than the one that was pinned
│   ├── CertificateInvalid    the server's TLS certificate cannot be trusted
│   ├── DestinationInvalid    misconfigured: for example a folder that is a file
│   ├── DestinationNotPrepared  its marker is not there: an empty place, or another one
│   ├── StoragePermissionDenied
│   ├── NoSpace
│   ├── NoPast                the destination keeps no old versions
│   ├── ObjectLocked          the destination keeps it for a time, whoever asks
│   └── SizeMismatch          what is stored is not as long as what was sent
├── ArchiveError
│   ├── ManifestInvalid       not ours, edited, moved or of an unknown format
│   ├── UnknownSigner
│   ├── ArchiveDamaged        hash or length differs, or a stream ends early
│   ├── DecryptionFailed      wrong or missing key
│   └── MemberMismatch        what was extracted is not what was recorded
├── ForeignArchiveError       another system's backup that cannot be imported
│   ├── FormatUnknown         nothing in it tells what made it
│   ├── FormatAmbiguous       more than one format fits: name one
│   ├── FormatUnsupported     known, and not to be read (yet)
│   ├── ArchiveEncrypted      it must be decrypted first
│   ├── ArchiveInvalid        damaged, cut or malformed
│   └── ImportLimitExceeded   larger or deeper than the settings allow
├── DeploymentError
│   ├── CommandFailed         exit status and the last lines of stderr
│   ├── ToolMissing
│   ├── TargetMissing         a document root or mail folder that is not there
│   │   └── TargetGone        a pod or container that was there, and is gone or does not run any more
│   ├── TargetAmbiguous       several containers or pods match
│   ├── ReplicasDiffer        several pods match, and each has files or a database of its own
│   ├── DeploymentUnreachable a server, engine or cluster that does not answer
│   ├── DeploymentRefused     it does not accept the credentials, or denies what is asked
│   ├── DeploymentKeyMismatch another server answers than the one that was pinned
│   ├── WrongServer           the site is on another server than this process
│   ├── StreamCut             a command's output ended before its end was confirmed
│   ├── SwapImpossible        no mode of the swap works at the target
│   │   └── StagingLost       what lies where a restore staged is not what it made
│   ├── SwapUnfinished        a swap stopped half-way; what was live is kept, and it is tried again
│   └── TargetProtected       something in the target can be neither moved nor removed: a mount, chattr +i
├── ComponentError
│   ├── DatabaseUnreachable
│   ├── DatabaseAccessDenied
│   ├── DatabaseNotFound
│   ├── DumpIncomplete        exit status 0, but the end marker or tables are missing
│   ├── ObjectsRefused        objects of a namespace that a restore may not, or would not, make; nothing was changed
│   ├── LoadFailed            the database refused what was loaded; nothing was changed, or the message says what
│   ├── ProofImpossible       whether a dump loads cannot be tried, or the trial tells nothing of the dump
│   └── RestoreUnsettled      what is live is neither the old nor the new yet: putting it right is tried again
├── NotificationError
│   ├── NotificationFailed    the receiver cannot be reached, or not now
│   └── NotificationRefused   the receiver does not want it: trying again does not help
└── JobError
    ├── OwnershipLost         another attempt took the operation over
    ├── OperationCancelled
    └── ImportStopped         all or nothing was asked for, and another part failed
"""

from __future__ import annotations

from typing import ClassVar


class LiberuError(Exception):
    """Base of the tree. `code` is stable for clients; `retryable` tells whether trying again may help."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(LiberuError):
    code = "invalid_request"


class InvalidName(InvalidRequest):
    code = "invalid_name"


class AddressForbidden(InvalidRequest):
    code = "address_forbidden"


class NothingToBackUp(InvalidRequest):
    code = "nothing_to_back_up"


class IdempotencyMismatch(InvalidRequest):
    code = "idempotency_mismatch"


class KeyMaterialInvalid(InvalidRequest):
    code = "key_material_invalid"


class NotFound(LiberuError):
    code = "not_found"


class Unauthenticated(LiberuError):
    code = "unauthenticated"


class Forbidden(LiberuError):
    code = "forbidden"


class RateLimited(LiberuError):
    code = "rate_limited"
    retryable = True


class TooManyStreams(RateLimited):
    code = "too_many_streams"


class TooLarge(LiberuError):
    code = "too_large"


class UploadsFull(LiberuError):
    code = "uploads_full"
    retryable = True


class AuditBroken(LiberuError):
    code = "audit_broken"


class Conflict(LiberuError):
    code = "conflict"


class AlreadyRunning(Conflict):
    code = "already_running"
    retryable = True


class LastOperatorToken(Conflict):
    code = "last_operator_token"


class DestinationProtected(Conflict):
    code = "destination_protected"


class NotRestorable(Conflict):
    code = "not_restorable"


class QuotaExceeded(Conflict):
    code = "quota_exceeded"


class DomainOverlap(Conflict):
    code = "domain_overlap"


class ConsentRequired(Conflict):
    code = "consent_required"


class DataFolderLocked(Conflict):
    code = "data_folder_locked"


class StorageError(LiberuError):
    code = "storage_error"
    retryable = True


class ObjectNotFound(StorageError):
    code = "object_not_found"
    retryable = False


class DestinationUnreachable(StorageError):
    code = "destination_unreachable"


class DestinationBusy(DestinationUnreachable):
    code = "destination_busy"


class DestinationTooSlow(StorageError):
    code = "destination_too_slow"


class DestinationRefused(StorageError):
    code = "destination_refused"
    retryable = False


class HostKeyMismatch(StorageError):
    code = "host_key_mismatch"
    retryable = False


class CertificateInvalid(StorageError):
    code = "certificate_invalid"
    retryable = False


class DestinationInvalid(StorageError):
    code = "destination_invalid"
    retryable = False


class DestinationNotPrepared(StorageError):
    code = "destination_not_prepared"
    retryable = False


class StoragePermissionDenied(StorageError):
    code = "storage_permission_denied"
    retryable = False


class NoSpace(StorageError):
    code = "no_space"
    retryable = False


class NoPast(StorageError):
    code = "no_past"
    retryable = False


class ObjectLocked(StorageError):
    code = "object_locked"
    retryable = False


class SizeMismatch(StorageError):
    code = "size_mismatch"


class ArchiveError(LiberuError):
    code = "archive_error"


class ManifestInvalid(ArchiveError):
    code = "manifest_invalid"


class UnknownSigner(ArchiveError):
    code = "unknown_signer"


class ArchiveDamaged(ArchiveError):
    code = "archive_damaged"


class DecryptionFailed(ArchiveError):
    code = "decryption_failed"


class MemberMismatch(ArchiveError):
    code = "member_mismatch"


class ForeignArchiveError(LiberuError):
    code = "foreign_archive_error"


class FormatUnknown(ForeignArchiveError):
    code = "format_unknown"


class FormatAmbiguous(ForeignArchiveError):
    code = "format_ambiguous"


class FormatUnsupported(ForeignArchiveError):
    code = "format_unsupported"


class ArchiveEncrypted(ForeignArchiveError):
    code = "archive_encrypted"


class ArchiveInvalid(ForeignArchiveError):
    code = "archive_invalid"


class ImportLimitExceeded(ForeignArchiveError):
    code = "import_limit_exceeded"


class DeploymentError(LiberuError):
    code = "deployment_error"


class CommandFailed(DeploymentError):
    """A command ended with a status other than 0. `stderr` holds its last lines, never a secret."""

    code = "command_failed"

    def __init__(self, command: str, status: int, stderr: str) -> None:
        tail = stderr.strip() or "it printed no reason"
        if status in (-9, 137):
            tail += "; it was killed, most often because memory ran out: look at the memory limit where the site runs"
        super().__init__(f"{command} ended with status {status}: {tail}")
        self.command = command
        self.status = status
        self.stderr = stderr


class ToolMissing(DeploymentError):
    code = "tool_missing"


class TargetMissing(DeploymentError):
    code = "target_missing"


class TargetGone(TargetMissing):
    code = "target_gone"
    retryable = True


class TargetAmbiguous(DeploymentError):
    code = "target_ambiguous"


class ReplicasDiffer(DeploymentError):
    code = "replicas_differ"


class DeploymentUnreachable(DeploymentError):
    code = "deployment_unreachable"
    retryable = True


class DeploymentRefused(DeploymentError):
    code = "deployment_refused"


class DeploymentKeyMismatch(DeploymentError):
    code = "deployment_key_mismatch"


class WrongServer(DeploymentError):
    code = "wrong_server"


class StreamCut(DeploymentError):
    code = "stream_cut"
    retryable = True


class SwapImpossible(DeploymentError):
    code = "swap_impossible"


class StagingLost(SwapImpossible):
    code = "staging_lost"


class SwapUnfinished(DeploymentError):
    code = "swap_unfinished"
    retryable = True


class TargetProtected(DeploymentError):
    code = "target_protected"


class ComponentError(LiberuError):
    code = "component_error"


class DatabaseUnreachable(ComponentError):
    code = "database_unreachable"
    retryable = True


class DatabaseAccessDenied(ComponentError):
    code = "database_access_denied"


class DatabaseNotFound(ComponentError):
    code = "database_not_found"


class DumpIncomplete(ComponentError):
    code = "dump_incomplete"


class LoadFailed(ComponentError):
    code = "load_failed"


class ObjectsRefused(ComponentError):
    code = "objects_refused"


class ProofImpossible(ComponentError):
    code = "proof_impossible"


class RestoreUnsettled(ComponentError):
    code = "restore_unsettled"
    retryable = True


class NotificationError(LiberuError):
    code = "notification_error"


class NotificationFailed(NotificationError):
    code = "notification_failed"
    retryable = True


class NotificationRefused(NotificationError):
    code = "notification_refused"


class JobError(LiberuError):
    code = "job_error"


class OwnershipLost(JobError):
    code = "ownership_lost"


class OperationCancelled(JobError):
    code = "operation_cancelled"


class ImportStopped(JobError):
    code = "import_stopped"

"""What does not come back yet: `file/way/server`, as a pattern, to what happens. Whoever fixes one removes it."""

from __future__ import annotations

_PACKET = "the INSERT is larger than the server's max_allowed_packet, noticed by the restore only: "

KNOWN: dict[str, str] = {
    # The backup says completed and can never be restored.
    "blob_9_mib/*": _PACKET + "hexadecimal doubles 9 MiB",
    "blob_17_mib/*": _PACKET + "a row of 18 MiB",
    "packet_small/*": _PACKET + "hexadecimal doubles 900 KiB",
    "binlog_trigger_and_function/alone/*": "1419 at DROP TRIGGER; then restore_unsettled, though nothing was changed",
    "binlog_trigger_and_function/*": "1419 at CREATE TRIGGER: the owner creates it, without SUPER",
    "checks_violated/*": "4025: CONSTRAINT `positive` failed",
    "collations_mysql/*": "3105: a value for generated column 'v': MariaDB's dump program is used for MySQL",
    "foreign_key_elsewhere/[ao][dt]*": "1142: REFERENCES command denied for table `zoo_elsewhere`.`p`",
    "names_newline/alone/*": "as below; neither the old nor the new is live",
    "names_newline/*": "a view's name with a newline: the script filter takes its second line for SQL of the dump",
    "oracle_packages/alone/*": "1064 at DROP PACKAGE, and so does the undo: neither the old nor the new is live",
    "oracle_packages/*": "1064 at DROP PACKAGE IF EXISTS: sql_mode is not ORACLE there",
    "routine_sql_mode_definer_ansi/[ao][dt]*": '1227: DEFINER="qu""ote`d"@"%" of ANSI_QUOTES is not taken out',
    "sequence_default*/alone/*": "1100: Table 'ticket' was not locked with LOCK TABLES; neither old nor new is live",
    "sequence_default/*": "1142 on the live database's sequence: the dump names it `zoo_live`.`ticket`",
    "sequence_default_before/*": "1142 on the live database's sequence: the dump names it `zoo_live`.`z_ticket`",
    "server_requires_keys/*": "1173: This table type requires a primary key, noticed by the restore only",
    "strict_server_modes/other/*": '1227: DEFINER="owner"@"127.0.0.1" of ANSI_QUOTES is not taken out',
    "view_check_option/alone/*": "1368, and so does the safety copy: neither the old nor the new is live",
    "view_check_option/*": "1368: CHECK OPTION on non-updatable view: it is over a stand-in of one that sorts later",
    "view_definer_gone/[ao][dt]*": "1054: Unknown column 'zoo_live.t.id': SHOW CREATE VIEW names the live database",
    # Something is lost or changed without a word.
    "float_precision/*": "FLOATs lose all but six digits: the dump program prints no more",
    "foreign_key_dangling/[ao][dt]*": "the foreign key refers to `liberu-new-…`.`missing` afterwards",
    "invalid_dates/*": "2026-02-31 comes back as 0000-00-00: the dump's sql_mode lacks ALLOW_INVALID_DATES",
    "roles_grants/[!o]*": "DROP PROCEDURE and DROP FUNCTION take the grants on them along",
    "system_versioned/*": "the history is lost (--dump-history)",
    "system_versioned_columns/*": "the history is lost (--dump-history)",
}  # fmt: skip

<?php
// Copyright (c) hybridlab.platform contributors
// GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Make or update the webmail's tables, by Roundcube's own scripts. May be killed anywhere and run again.
// Exit code 75: MariaDB does not answer yet.

define('INSTALL_PATH', '/var/lib/roundcube/');
require_once INSTALL_PATH . 'program/include/clisetup.php';

const SQL = '/usr/share/roundcube/SQL';
// Stands as long as the tables are being made for the first time: nobody has used them then.
const BEGUN = 'platform_schema_begun';

function tables(PDO $database): array
{
    return $database->query('SHOW TABLES')->fetchAll(PDO::FETCH_COLUMN);
}

function version(PDO $database): ?string
{
    if (!in_array('system', tables($database), true)) {
        return null;
    }
    $found = $database->query("SELECT value FROM `system` WHERE name = 'roundcube-version'")->fetchColumn();
    return $found === false ? null : $found;
}

function drop_all(PDO $database): void
{
    $database->exec('SET FOREIGN_KEY_CHECKS = 0');
    // The mark goes last.
    foreach (array_diff(tables($database), [BEGUN]) as $table) {
        $database->exec("DROP TABLE `$table`");
    }
    $database->exec('SET FOREIGN_KEY_CHECKS = 1');
}

$dsn = rcube_db::parse_dsn(rcube::get_instance()->config->get('db_dsnw'));
try {
    $database = new PDO("mysql:unix_socket={$dsn['socket']};dbname={$dsn['database']};charset=utf8mb4", $dsn['username'], $dsn['password'], [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
} catch (PDOException $error) {
    fwrite(STDERR, 'no answer from MariaDB: ' . $error->getMessage() . "\n");
    exit(75);
}

$found = tables($database);
if (in_array(BEGUN, $found, true) && version($database) === null) {
    drop_all($database);
    $found = [];
}
if ($found !== [] && version($database) === null) {
    fwrite(STDERR, "the database has tables, but not all of them: is it being restored? Nothing was changed\n");
    exit(75);
}
if ($found === []) {
    $database->exec('CREATE TABLE IF NOT EXISTS `' . BEGUN . '` (made int)');
    rcmail_utils::db_init(SQL);
}
$database->exec('DROP TABLE IF EXISTS `' . BEGUN . '`');
rcmail_utils::db_update(SQL, 'roundcube', null, ['errors' => true]);

<?php
// Copyright (c) hybridlab.platform contributors
// GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// All of Roundcube's settings. What the model says is in /etc/roundcube/model/model.json, what nobody is to know in /run/secrets.

$platform_model = json_decode(file_get_contents('/etc/roundcube/model/model.json'), true, 8, JSON_THROW_ON_ERROR);
$platform_secret = function ($name) {
    $value = rtrim((string) file_get_contents("/run/secrets/$name"), "\r\n");
    if ($value === '') {
        throw new RuntimeException("/run/secrets/$name: found no value");
    }
    return $value;
};
// A CA of the host's own, where there is one; else the system's.
$platform_ca = '/srv/tls/current/ca.pem';
$platform_tls = ['ssl' => [
    'verify_peer' => true,
    'verify_peer_name' => true,
    'peer_name' => $platform_model['hostname'],
    'cafile' => is_file($platform_ca) ? $platform_ca : '/etc/ssl/certs/ca-certificates.crt',
]];

// nginx counts attempts to log in by the address that they are sent to. One that says elsewhere what it is, or in other letters, is none.
if (isset($_POST['_user'], $_POST['_pass']) && !preg_match('/^_task=login(&|$)/', $_SERVER['QUERY_STRING'] ?? '')) {
    http_response_code(400);
    exit;
}

$config = [];
$config['db_dsnw'] = 'mysql://roundcube:' . rawurlencode($platform_secret('mail_roundcube_db')) . '@unix(/run/mail/mariadb/mysqld.sock)/roundcube';
$config['des_key'] = hash('sha256', $platform_secret('mail_roundcube_key'), true);
$config['cipher_method'] = 'AES-256-CBC';

$config['imap_host'] = 'tls://dovecot:143';
$config['imap_conn_options'] = $platform_tls;
// Dovecot keeps who guesses waiting, for 17 seconds at most: that is a refusal, and no fault.
$config['imap_timeout'] = 30;
$config['smtp_host'] = 'tls://postfix:587';
$config['smtp_conn_options'] = $platform_tls;
$config['smtp_user'] = '%u';
$config['smtp_pass'] = '%p';
$config['smtp_timeout'] = 30;
$config['smtp_helo_host'] = 'webmail.invalid';
$config['managesieve_host'] = 'tls://dovecot:4190';
$config['managesieve_conn_options'] = $platform_tls;
$config['managesieve_default'] = '';
$config['managesieve_vacation'] = 1;

$config['plugins'] = ['archive', 'managesieve', 'markasjunk', 'password', 'platform', 'zipdownload'];
$config['password_driver'] = 'platform';
$config['password_confirm_current'] = true;
$config['password_minimum_length'] = 10;
$config['password_log'] = true;
$config['markasjunk_spam_mbox'] = 'Junk';

$config['product_name'] = 'Webmail';
$config['useragent'] = 'Webmail';
$config['display_product_info'] = 0;
$config['max_message_size'] = $platform_model['message_mb'] . 'M';
$config['drafts_mbox'] = 'Drafts';
$config['junk_mbox'] = 'Junk';
$config['sent_mbox'] = 'Sent';
$config['trash_mbox'] = 'Trash';
$config['archive_mbox'] = 'Archive';
$config['quota_zero_as_unlimited'] = true;
$config['enable_spellcheck'] = false;
$config['keyservers'] = [];
// An alias of one's own may be the sender; an address of somebody else is refused where mail is sent.
$config['identities_level'] = 0;

$config['log_driver'] = 'stdout';
$config['log_logins'] = true;
$config['temp_dir'] = '/var/lib/roundcube/temp';
$config['enable_installer'] = false;
$config['use_https'] = true;
$config['session_samesite'] = 'Strict';
$config['login_lc'] = 2;
$config['login_rate_limit'] = 5;
$config['session_lifetime'] = 30;

unset($platform_model, $platform_secret, $platform_ca, $platform_tls);

<?php
// Copyright (c) hybridlab.platform contributors
// GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

/**
 * Password driver: asks the service of accounts at its Unix socket, in one line of JSON each way.
 */
class rcube_platform_password
{
    private const SOCKET = 'unix:///run/mail/accounts/password';
    private const SECONDS = 30;

    public function save($current, $new, $address)
    {
        $link = @stream_socket_client(self::SOCKET, $code, $text, 5);
        if (!$link) {
            rcube::write_log('errors', "password: no answer from the service of accounts: $text");
            return PASSWORD_CONNECT_ERROR;
        }
        stream_set_timeout($link, self::SECONDS);
        fwrite($link, json_encode(['address' => $address, 'old' => $current, 'new' => $new]) . "\n");
        $answer = json_decode((string) fgets($link, 4096), true);
        fclose($link);
        if (!is_array($answer) || !isset($answer['ok'])) {
            rcube::write_log('errors', 'password: no whole answer from the service of accounts');
            return PASSWORD_CONNECT_ERROR;
        }
        return $answer['ok'] ? PASSWORD_SUCCESS : ['code' => PASSWORD_ERROR, 'message' => $answer['text']];
    }
}

<?php
// Copyright (c) hybridlab.platform contributors
// GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

/**
 * Tells Dovecot who logs in: the client's address before the login, in IMAP's ID (RFC 2971), as Dovecot takes it from networks that it trusts.
 * Takes spaces and lines out of user names: those who ban read the log of failed logins, and nobody is to write lines of others into it.
 */
class platform extends rcube_plugin
{
    public $noframe = true;

    public function init()
    {
        $this->add_hook('storage_connect', [$this, 'tell_address']);
        $this->add_hook('authenticate', [$this, 'clean_name']);
    }

    public function clean_name($args)
    {
        // Null where it is no UTF-8.
        $args['user'] = preg_replace('/[\s\p{C}]+/u', '', (string) $args['user']) ?? '';
        return $args;
    }

    public function tell_address($args)
    {
        $address = rcube_utils::remote_addr();
        if ($address !== '') {
            $args['preauth_ident'] = ['name' => 'Webmail', 'x-originating-ip' => $address];
        }
        return $args;
    }
}

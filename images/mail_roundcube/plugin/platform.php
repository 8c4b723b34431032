<?php
// Copyright (c) hybridlab.platform contributors
// GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

/**
 * Tells Dovecot who logs in: the client's address before the login, in IMAP's ID (RFC 2971), as Dovecot takes it from networks that it trusts.
 */
class platform extends rcube_plugin
{
    public $noframe = true;

    public function init()
    {
        $this->add_hook('storage_connect', [$this, 'tell_address']);
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

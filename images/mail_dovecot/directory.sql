# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
driver = sqlite
connect = /srv/accounts/directory.sqlite
user_query = SELECT '5000' AS uid, '5000' AS gid, '/srv/mail/home/%d/%n' AS home, '*:bytes=' || quota_bytes AS quota_rule FROM mailboxes WHERE address = '%u'
iterate_query = SELECT address AS user FROM mailboxes
